import { Hono } from "hono";
import { DecoError } from "../protocol/errors.ts";
import type { HubContext } from "./hub-context.ts";
import type { HubLog } from "./hub-log.ts";
import { problemResponse } from "./problem.ts";
import { mountRoutes, type Route } from "./route.ts";
import { catalogRoutes } from "./routes/catalog.ts";
import { healthRoutes } from "./routes/health.ts";
import { linkRoutes } from "./routes/links.ts";
import { oauthRoutes } from "./routes/oauth.ts";
import { runFileRoutes } from "./routes/run-files.ts";
import { runRoutes } from "./routes/runs.ts";
import { signInRoutes } from "./routes/sign-in.ts";

/** What the injected page learns of each request. */
export interface PageContext {
  /** Whether the request carries a session. */
  readonly signedIn: (request: Request) => boolean;
}

export type Page = (context: PageContext) => Hono;

/** Every route of the hub, in one table. */
export function hubRoutes(hub: HubContext): Route[] {
  const routes: Route[] = [
    ...linkRoutes(hub),
    ...runRoutes(hub),
    ...runFileRoutes(hub),
    ...catalogRoutes(hub),
    ...oauthRoutes(hub),
    ...signInRoutes(hub),
    ...healthRoutes(hub, () => routes),
  ];
  return routes;
}

/** The hub's HTTP side: Host first, then the table, then the page. It opens no port. */
export function hubApp(hub: HubContext, o: { log: HubLog; page?: Page | undefined }): Hono {
  const app = new Hono();
  app.onError((thrown, c) => {
    const error = asProblem(thrown);
    if (error.info.status >= 500) {
      o.log.error({ path: c.req.path, code: error.code, error: thrown }, "a request failed");
    }
    const { headers } = c.res;
    const allow = headers.get("allow");
    return problemResponse(error, allow === null ? {} : { allow });
  });
  app.notFound(() => problemResponse(new DecoError("not_found", "no such path")));
  app.use("*", async (c, next) => {
    hub.guard.checkHost(c.req.header("host"));
    await next();
    c.res.headers.set("x-content-type-options", "nosniff");
  });
  app.use("/api/*", async (_c, next) => {
    // Never a 200 that stored nothing (LESSONS 5).
    if (!hub.store.ready()) throw new DecoError("unavailable", "the store does not answer");
    await next();
  });
  mountRoutes(app, hubRoutes(hub), hub.auth);
  if (o.page !== undefined) {
    const signedIn = (request: Request) => hub.auth.sessionUser(request) !== undefined;
    app.route("/", o.page({ signedIn }));
  }
  return app;
}

/** What is not ours has no detail for the outside. */
function asProblem(thrown: Error): DecoError {
  if (thrown instanceof DecoError) return thrown;
  return new DecoError("internal", "the hub failed at this request", { cause: thrown });
}
