import { DecoError } from "../../protocol/errors.ts";
import type { HubContext } from "../hub-context.ts";
import type { LinkView } from "../presence.ts";
import { noBody, type Route, route } from "../route.ts";
import { CatalogSchema, ThreadViewSchema } from "../schemas.ts";
import { threadView } from "../thread-pins.ts";

/** Threads, and which links offer what. */
export function catalogRoutes({ store, presence }: HubContext): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/api/threads/:id",
        summary: "A thread's pins and its sandbox map",
        auth: "user",
        body: noBody,
        answers: { 200: { description: "The thread", schema: ThreadViewSchema } },
        errors: ["thread_not_found"],
      },
      ({ c, user }) => {
        const thread = store.threads.get(user, c.req.param("id") ?? "");
        if (thread === undefined) throw new DecoError("thread_not_found", "no such thread");
        return c.json(threadView(thread));
      },
    ),
    route(
      {
        method: "GET",
        path: "/api/capabilities",
        summary: "Which of your links offer what",
        auth: "user",
        body: noBody,
        query: { type: "Only the capability of this name" },
        answers: { 200: { description: "The catalog", schema: CatalogSchema } },
        errors: [],
      },
      ({ c, user }) =>
        c.json({ capabilities: catalog(presence.ofUser(user), c.req.query("type")) }),
    ),
  ];
}

function catalog(links: readonly LinkView[], type: string | undefined) {
  const names = links.flatMap(({ capabilities }) => capabilities.map(({ name }) => name));
  const wanted = [...new Set(names)].filter((name) => type === undefined || name === type);
  return wanted.toSorted().map((name) => {
    const offers = links.flatMap((link) =>
      link.capabilities
        .filter((capability) => capability.name === name)
        .map((capability) => {
          const { linkId, status } = link;
          const available = capability.available !== false;
          return { ...capability, linkId, name: link.name, status, available };
        }),
    );
    const available = offers.some((offer) => offer.available && offer.status === "online");
    return { name, available, links: offers };
  });
}
