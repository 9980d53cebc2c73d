import { z } from "zod";
import { DecoError } from "../../protocol/errors.ts";
import { Attempts } from "../attempts.ts";
import type { HubContext } from "../hub-context.ts";
import { noBody, type Route, route } from "../route.ts";

/** Entering and leaving the page: a single-use code becomes a session. */
export function signInRoutes(hub: HubContext): Route[] {
  const { auth, now } = hub;
  const attempts = new Attempts({ max: 20, windowMs: 60_000, now });
  const enter = (code: string) => {
    try {
      return auth.openSession(useCode(hub, code));
    } catch (error) {
      // A right code always passes: nobody can lock the owner out by guessing.
      attempts.check("sign-in");
      attempts.failed("sign-in");
      throw error;
    }
  };
  return [byLink(hub, enter), byCode(hub, enter), signOut(hub)];
}

/** Uses up a code; the value of `Set-Cookie`. */
type Enter = (code: string) => string;

function byLink(hub: HubContext, enter: Enter): Route {
  return route(
    {
      method: "GET",
      path: "/sign-in",
      summary: "Enter the page by the link that was printed",
      auth: "none",
      body: noBody,
      query: { code: "A single-use code, good for 60 s" },
      answers: { 303: { description: "To the page, with a session" } },
      errors: ["sign_in_code_invalid", "rate_limited"],
    },
    ({ c }) => {
      // A look ahead, as mail scanners and link previews take it, must not use up the code.
      if (c.req.method === "HEAD") {
        c.header("cache-control", "no-store");
        return c.redirect("/", 303);
      }
      try {
        c.header("set-cookie", enter(c.req.query("code") ?? ""));
        c.header("cache-control", "no-store");
        return c.redirect("/", 303);
      } catch (error) {
        const page = hub.signInFailedPage;
        const html = c.req.header("accept")?.includes("text/html") === true;
        const failed = DecoError.from(error).code === "sign_in_code_invalid";
        if (page === undefined || !html || !failed) throw error;
        return c.html(page(), 401, { "cache-control": "no-store" });
      }
    },
  );
}

function byCode(hub: HubContext, enter: Enter): Route {
  return route(
    {
      method: "POST",
      path: "/sign-in",
      summary: "Enter the page by a code",
      auth: "none",
      body: z.strictObject({ code: z.string().max(4096) }),
      maxBodyBytes: 16 * 1024,
      answers: { 204: { description: "Signed in by a cookie" } },
      errors: ["sign_in_code_invalid", "origin_refused", "rate_limited"],
    },
    ({ c, body }) => {
      if (c.req.header("origin") !== undefined) hub.guard.checkPage(c.req.raw);
      c.header("set-cookie", enter(body.code));
      return c.body(null, 204);
    },
  );
}

function signOut({ auth }: HubContext): Route {
  return route(
    {
      method: "POST",
      path: "/sign-out",
      summary: "End this session",
      auth: "session",
      body: z.strictObject({}),
      optionalBody: true,
      answers: { 204: { description: "Signed out" } },
      errors: ["unauthorized", "origin_refused"],
    },
    ({ c }) => {
      c.header("set-cookie", auth.closeSession(c.req.raw));
      return c.body(null, 204);
    },
  );
}

/** @throws DecoError sign_in_code_invalid */
function useCode({ keys, store }: HubContext, code: string): string {
  const { user, id, expiresAt } = keys.readLoginCode(code);
  if (!store.signIn.useOnce("code", id, expiresAt + 60_000)) {
    throw new DecoError("sign_in_code_invalid", "the sign-in code was used");
  }
  return user;
}
