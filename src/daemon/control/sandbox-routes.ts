import { Hono } from "hono";
import { DecoError } from "../../protocol/errors.ts";
import { SandboxSpec } from "../../protocol/messages.ts";
import type { SandboxInfo } from "../../sandbox/provider.ts";
import type { AllSandboxes } from "../sandboxes.ts";
import { readJson } from "./answers.ts";
import type { ControlEnv } from "./control-env.ts";
import { parseHandle } from "./parse-handle.ts";
import { proxyToPort } from "./port-proxy.ts";
import { seenBy } from "./seen-by.ts";

export interface SandboxRoutesOptions {
  readonly sandboxes: AllSandboxes;
}

/** `/v1/sandboxes…` */
export function sandboxRoutes({ sandboxes }: SandboxRoutesOptions) {
  return new Hono<{ Bindings: ControlEnv }>()
    .get("/", async (c) => {
      const { sandboxes: found, errors } = await seenBy(sandboxes, c.env).list(c.req.raw.signal);
      return c.json({ sandboxes: found.map((info) => outside(info, c.env)), errors });
    })
    .put("/:handle", async (c) => {
      const handle = parseHandle(c.req.param("handle"));
      const spec = await readJson(c.req.raw, SandboxSpec);
      const { info, created } = await seenBy(sandboxes, c.env).ensure(handle, spec, {
        local: c.env.signed !== true,
        signal: c.req.raw.signal,
      });
      return c.json(outside(info, c.env), created ? 201 : 200);
    })
    .get("/:handle", async (c) => {
      const handle = parseHandle(c.req.param("handle"));
      const info = await seenBy(sandboxes, c.env).inspect(handle, c.req.raw.signal);
      return c.json(outside(info, c.env));
    })
    .delete("/:handle", async (c) => {
      const handle = parseHandle(c.req.param("handle"));
      const force = c.req.query("force") === "true";
      await seenBy(sandboxes, c.env).remove(handle, { force }, c.req.raw.signal);
      return c.body(null, 204);
    })
    .all("/:handle/ports/:port/*", async (c) => {
      const handle = parseHandle(c.req.param("handle"));
      const port = parsePort(c.req.param("port"));
      const seen = seenBy(sandboxes, c.env);
      if (c.env.signed === true) await seen.allowHub(handle, c.req.raw.signal);
      const endpoint = await seen.endpoint(handle, c.req.raw.signal);
      return proxyToPort({ endpoint, handle, port, request: c.req.raw, env: c.env });
    });
}

/** What leaves the laptop: no host directory, no names; `url` is null where harnessd has no port. */
function outside({ runDir: _runDir, owner, ...info }: SandboxInfo, { signed }: ControlEnv): object {
  const whose = signed === true || owner === undefined ? {} : { owner };
  return { ...info, ...whose, url: info.url ?? null };
}

function parsePort(text: string): number {
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  if (port >= 1 && port <= 65_535) return port;
  throw new DecoError("invalid_request", `not a port: ${JSON.stringify(text)}`, {
    fix: "Use a port from 1 to 65535.",
  });
}
