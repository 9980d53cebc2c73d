import { type Context, Hono } from "hono";
import { DecoError } from "../../protocol/errors.ts";
import { globMatcher } from "../../protocol/glob.ts";
import { mayBeTar, safePath, TAR_TYPE } from "../../protocol/tar-rules.ts";
import { onlyFile } from "../../sandbox/workspace/repack.ts";
import type { AllSandboxes } from "../sandboxes.ts";
import type { ControlEnv } from "./control-env.ts";
import { parseHandle } from "./parse-handle.ts";
import { seenBy } from "./seen-by.ts";

const MAX_GLOBS = 32;
const NAME = /^[A-Za-z0-9._-]{1,255}$/;

type Ctx = Context<{ Bindings: ControlEnv }>;

/** `/v1/sandboxes/{handle}/archive` and `/files`; both bodies stream. */
export function sandboxFileRoutes({ sandboxes }: { readonly sandboxes: AllSandboxes }) {
  return new Hono<{ Bindings: ControlEnv }>()
    .put("/:handle/archive", async (c) => {
      const { handle, signal } = common(c);
      const seen = seenBy(sandboxes, c.env);
      const name = archiveName(c);
      if (c.env.signed === true) await seen.allowHub(handle, signal);
      const { body } = c.req.raw;
      if (body === null || !mayBeTar(c.req.header("content-type"))) {
        throw new DecoError("unsupported_media_type", "an archive is a tar without compression", {
          fix: `Send content-type: ${TAR_TYPE}.`,
        });
      }
      const files = await seen.files(handle, signal);
      const upload = { body, ...(name === undefined ? {} : { name }) };
      return c.json(await files.put(handle, upload, signal));
    })
    .get("/:handle/archive", async (c) => {
      const { handle, signal } = common(c);
      const seen = seenBy(sandboxes, c.env);
      const globs = c.req.queries("match") ?? [];
      if (globs.length > MAX_GLOBS || globs.some((glob) => glob.length > 1024)) {
        throw new DecoError("invalid_request", `match: at most ${MAX_GLOBS}, of 1024 characters`);
      }
      if (c.env.signed === true) await seen.allowHub(handle, signal);
      const select = globs.length === 0 ? {} : { select: globMatcher(globs) };
      const files = await seen.files(handle, signal);
      const tar = await files.read(handle, { path: "", ...select }, signal);
      c.env.markStream?.();
      return new Response(tar, { headers: { "content-type": TAR_TYPE } });
    })
    .get("/:handle/files", async (c) => {
      const { handle, signal } = common(c);
      const seen = seenBy(sandboxes, c.env);
      const path = filePath(c.req.query("path") ?? "");
      if (c.env.signed === true) await seen.allowHub(handle, signal);
      const files = await seen.files(handle, signal);
      const { entry, body } = await onlyFile(await files.read(handle, { path }, signal));
      c.env.markStream?.();
      return new Response(body, {
        headers: {
          "content-type": "application/octet-stream",
          "content-length": String(entry.size),
          "deco-file-mode": entry.mode.toString(8).padStart(4, "0"),
        },
      });
    });
}

function common(c: Ctx) {
  return { handle: parseHandle(c.req.param("handle") ?? ""), signal: c.req.raw.signal };
}

function archiveName(c: Ctx): string | undefined {
  const name = c.req.query("ref");
  if (name === undefined || NAME.test(name)) return name;
  throw new DecoError("invalid_request", "ref: 1 to 255 of A-Z, a-z, 0-9, ., _ and -");
}

/** @throws invalid_request */
function filePath(raw: string): string {
  try {
    const path = safePath(raw);
    if (path !== "") return path;
  } catch (cause) {
    const { message } = DecoError.from(cause);
    throw new DecoError("invalid_request", `path: ${message}`, { cause });
  }
  throw new DecoError("invalid_request", "path: which file below the workspace?");
}
