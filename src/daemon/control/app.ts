import { Hono } from "hono";
import { DecoError } from "../../protocol/errors.ts";
import type { Log } from "../log.ts";
import type { StatusSnapshot } from "../status.ts";
import { problemResponse } from "./answers.ts";
import type { ControlEnv, ControlFetch } from "./control-env.ts";
import { allowedMethods } from "./methods.ts";
import { type RunRoutesOptions, runRoutes } from "./run-routes.ts";
import { sandboxFileRoutes } from "./sandbox-files.ts";
import { type SandboxRoutesOptions, sandboxRoutes } from "./sandbox-routes.ts";
import { pruneRoutes, type SandboxToolsOptions, sandboxToolRoutes } from "./sandbox-tools.ts";

export interface ControlAppOptions
  extends RunRoutesOptions,
    SandboxRoutesOptions,
    SandboxToolsOptions {
  /** Waits for nobody. */
  readonly status: () => StatusSnapshot;
  readonly log: Log;
}

/**
 * The daemon's control plane. Pure: it opens no port and checks no signature; {@link signed} stands
 * before it wherever it can be reached from outside.
 *
 * @see PROTOCOL.md, section "Control plane"
 */
export function controlApp(options: ControlAppOptions): ControlFetch {
  const { status, log } = options;
  const app = new Hono<{ Bindings: ControlEnv }>()
    .onError((thrown, c) => {
      const error = DecoError.from(thrown);
      if (error.code === "internal") log.error({ err: thrown, path: c.req.path }, "request failed");
      return problemResponse(error);
    })
    .notFound((c) => unrouted(c.req.method, c.req.path))
    .get("/healthz", (c) => c.json({ status: "ok" }))
    .get("/v1/status", (c) => c.json(status()))
    .route("/v1/runs", runRoutes(options))
    .route("/v1/sandboxes", sandboxFileRoutes(options))
    .route("/v1/sandboxes", sandboxRoutes(options))
    .route("/v1/sandboxes", sandboxToolRoutes(options))
    .route("/v1/prune", pruneRoutes(options));
  return { fetch: async (request, env) => app.fetch(request, env ?? {}) };
}

function unrouted(method: string, path: string): Response {
  if (path === "/v1/sandboxes/") {
    return problemResponse(new DecoError("invalid_handle", "the handle is empty"));
  }
  const allow = allowedMethods(path);
  if (allow === undefined) {
    return problemResponse(new DecoError("not_found", `no such path: ${path}`));
  }
  const detail = `${method} is not allowed on ${path}`;
  const error = new DecoError("method_not_allowed", detail, { fix: `Use ${allow}.` });
  return problemResponse(error, { allow });
}
