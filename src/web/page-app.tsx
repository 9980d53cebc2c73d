import { Hono } from "hono";
import style from "./page.css" with { type: "text" };
import script from "./page-client.js" with { type: "text" };
import { DevicePage, MainPage, SignInPage } from "./shell.tsx";

/** Nothing inline, nothing from elsewhere, in nobody's frame. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** What the page must know of each request. */
export interface PageOptions {
  /** Whether this request carries a session; without one the sign-in form is shown. */
  readonly signedIn: (request: Request) => boolean | Promise<boolean>;
}

/**
 * The hub's pages: `/`, `/runs/{id}` (the same page on one run), `/device`. They hold no data: the
 * script fetches it from the API with the session cookie, and writes it as text nodes only.
 */
export function pageApp(options: PageOptions): Hono {
  const app = new Hono();
  app.use("*", async (context, next) => {
    await next();
    context.header("content-security-policy", POLICY);
    context.header("x-content-type-options", "nosniff");
    context.header("referrer-policy", "no-referrer");
    context.header("cross-origin-opener-policy", "same-origin");
    context.header("cache-control", "no-store");
  });
  app.get("/assets/page.js", (context) =>
    context.body(script, 200, { "content-type": "text/javascript; charset=utf-8" }),
  );
  app.get("/assets/page.css", (context) =>
    context.body(style, 200, { "content-type": "text/css; charset=utf-8" }),
  );
  for (const path of ["/", "/runs/:id"]) {
    app.get(path, async (context) =>
      (await options.signedIn(context.req.raw))
        ? context.html(document(<MainPage />))
        : context.html(document(<SignInPage />), 401),
    );
  }
  app.get("/device", async (context) =>
    (await options.signedIn(context.req.raw))
      ? context.html(document(<DevicePage />))
      : context.html(document(<SignInPage />), 401),
  );
  return app;
}

/** What `GET /sign-in?code=…` shows when the code is used up, expired or wrong. */
export function signInFailedPage(): string {
  return document(<SignInPage failed />);
}

function document(page: { toString(): string }): string {
  return `<!doctype html>${page.toString()}`;
}
