import { httpRequest } from "../net/http-request.ts";
import { DecoError } from "../protocol/errors.ts";
import type { ControlClient, LinkRoute } from "./control-client.ts";
import type { HubLog } from "./hub-log.ts";
import type { Reach } from "./reach.ts";
import type { LinkRow } from "./store/links.ts";

const PROBE_TIMEOUT_MS = 5000;

/** Links that are reached by an address of their own on this machine, in the place of a tunnel. */
export class UrlLinks {
  readonly #reach: Reach;
  readonly #log: HubLog;
  /** The newest way of each link, believed or still being asked. */
  readonly #routes = new Map<string, LinkRoute>();

  constructor(o: { reach: Reach; log: HubLog }) {
    this.#reach = o.reach;
    this.#log = o.log;
  }

  /** Asks the daemon who it is, unless this epoch was asked already; each heartbeat asks again. */
  look(link: LinkRow): void {
    if (link.tunnelUrl === undefined || this.#routes.get(link.linkId)?.epoch === link.epoch) return;
    const route = urlRoute(link, link.tunnelUrl);
    this.#routes.get(link.linkId)?.close("superseded");
    this.#routes.set(link.linkId, route);
    route.signal.addEventListener("abort", () => this.#forget(route), { once: true });
    this.#probe(route, this.#reach.clientFor(route)).catch((error: unknown) => {
      const { code, message } = DecoError.from(error);
      this.#log.warn(
        { linkId: link.linkId, code, detail: message },
        "the link's address gave no right answer, asking at its next heartbeat",
      );
      route.close("gone");
    });
  }

  /** What a registration without an address, a new epoch or a leave ends. */
  dropOlder(linkId: string, epoch: number): void {
    const route = this.#routes.get(linkId);
    if (route !== undefined && route.epoch < epoch) route.close("superseded");
  }

  close(): void {
    for (const route of this.#routes.values()) route.close("gone");
  }

  async #probe(route: LinkRoute, client: ControlClient): Promise<void> {
    const { signal } = route;
    await client.call({ method: "GET", path: "/v1/status", signal, timeoutMs: PROBE_TIMEOUT_MS });
    this.#reach.up(route, client);
  }

  #forget(route: LinkRoute): void {
    if (this.#routes.get(route.linkId) === route) this.#routes.delete(route.linkId);
  }
}

function urlRoute({ linkId, epoch }: LinkRow, url: string): LinkRoute {
  const ended = new AbortController();
  const end = (why: string) =>
    ended.abort(new DecoError("tunnel_lost", `the link's address is gone: ${why}`));
  return {
    linkId,
    epoch,
    signal: ended.signal,
    close: end,
    async request({ method, path, headers, body, signal }) {
      try {
        return await httpRequest({
          url,
          method,
          path,
          headers,
          body,
          signal,
          unreachable: "tunnel_lost",
        });
      } catch (error) {
        // Believed no longer; the next heartbeat asks who answers there now.
        if (error instanceof DecoError && error.code === "tunnel_lost") end(error.message);
        throw error;
      }
    },
  };
}
