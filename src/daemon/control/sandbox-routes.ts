import { Hono } from "hono";
import { DecoError } from "../../protocol/errors.ts";
import { SandboxSpec } from "../../protocol/messages.ts";
import type { SandboxInfo } from "../../sandbox/provider.ts";
import type { Sandboxes } from "../sandboxes.ts";
import { readJson } from "./answers.ts";
import type { ControlEnv } from "./control-env.ts";
import { parseHandle } from "./parse-handle.ts";
import { proxyToPort } from "./port-proxy.ts";

export interface SandboxRoutesOptions {
  readonly sandboxes: Sandboxes;
}

/** `/v1/sandboxes…` */
export function sandboxRoutes({ sandboxes }: SandboxRoutesOptions) {
  return new Hono<{ Bindings: ControlEnv }>()
    .get("/", async (c) => {
      const found = await sandboxes.list(c.req.raw.signal);
      return c.json({ sandboxes: found.sandboxes.map(outside), errors: found.errors });
    })
    .put("/:handle", async (c) => {
      const handle = parseHandle(c.req.param("handle"));
      const spec = await readJson(c.req.raw, SandboxSpec);
      const { info, created } = await sandboxes.ensure(handle, spec, {
        local: c.env.signed !== true,
        signal: c.req.raw.signal,
      });
      return c.json(outside(info), created ? 201 : 200);
    })
    .get("/:handle", async (c) => {
      const handle = parseHandle(c.req.param("handle"));
      return c.json(outside(await sandboxes.inspect(handle, c.req.raw.signal)));
    })
    .delete("/:handle", async (c) => {
      const handle = parseHandle(c.req.param("handle"));
      const force = c.req.query("force") === "true";
      await sandboxes.remove(handle, { force }, c.req.raw.signal);
      return c.body(null, 204);
    })
    .all("/:handle/ports/:port/*", async (c) => {
      const handle = parseHandle(c.req.param("handle"));
      const port = parsePort(c.req.param("port"));
      if (c.env.signed === true) await sandboxes.allowHub(handle, c.req.raw.signal);
      const endpoint = await sandboxes.endpoint(handle, c.req.raw.signal);
      return proxyToPort({ endpoint, handle, port, request: c.req.raw, env: c.env });
    });
}

/** What leaves the laptop: no host directory; `url` is null where harnessd has no port. */
function outside({ runDir: _runDir, ...info }: SandboxInfo): object {
  return { ...info, url: info.url ?? null };
}

function parsePort(text: string): number {
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  if (port >= 1 && port <= 65_535) return port;
  throw new DecoError("invalid_request", `not a port: ${JSON.stringify(text)}`, {
    fix: "Use a port from 1 to 65535.",
  });
}
