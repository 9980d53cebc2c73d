import { Hono } from "hono";
import { z } from "zod";
import { sseResponse } from "../../net/sse-write.ts";
import { DecoError } from "../../protocol/errors.ts";
import type { SseFrame } from "../../protocol/sse.ts";
import type { ExecChunk } from "../../sandbox/provider.ts";
import type { Prune } from "../prune.ts";
import type { AllSandboxes } from "../sandboxes.ts";
import { parseWith, readJson } from "./answers.ts";
import type { ControlEnv } from "./control-env.ts";
import { parseHandle } from "./parse-handle.ts";
import { seenBy } from "./seen-by.ts";

export interface SandboxToolsOptions {
  readonly sandboxes: AllSandboxes;
  readonly prune: Prune;
}

const ExecBody = z.strictObject({
  /** The program and its arguments; no shell in between. */
  command: z
    .array(z.string().max(128 * 1024))
    .min(1)
    .max(1024),
});
const PruneBody = z.strictObject({ force: z.boolean().optional() });
const Lines = z
  .string()
  .regex(/^[0-9]{1,5}$/, "is no number from 1 to 10000")
  .transform(Number)
  .pipe(z.int().min(1).max(10_000));

/** `/v1/sandboxes/{handle}/logs` and `/exec`. */
export function sandboxToolRoutes({ sandboxes }: SandboxToolsOptions) {
  return new Hono<{ Bindings: ControlEnv }>()
    .get("/:handle/logs", async (c) => {
      const handle = parseHandle(c.req.param("handle"));
      const lines = parseWith(Lines, c.req.query("lines") ?? "200", "query.lines");
      const seen = seenBy(sandboxes, c.env);
      return c.json({ handle, text: await seen.logs(handle, lines, c.req.raw.signal) });
    })
    .post("/:handle/exec", async (c) => {
      ownerOnly(c.env, "exec");
      const handle = parseHandle(c.req.param("handle"));
      const { command } = await readJson(c.req.raw, ExecBody);
      const { signal } = c.req.raw;
      const chunks = await sandboxes.exec(handle, command, signal);
      return sseResponse({ signal, events: framesOf(chunks) });
    });
}

/** `/v1/prune`: what nobody needs any more. */
export function pruneRoutes({ prune }: SandboxToolsOptions) {
  return new Hono<{ Bindings: ControlEnv }>()
    .get("/", async (c) => {
      ownerOnly(c.env, "prune");
      return c.json(await prune.look(c.req.raw.signal));
    })
    .post("/", async (c) => {
      ownerOnly(c.env, "prune");
      const { force = false } = await readJson(c.req.raw, PruneBody);
      return c.json(await prune.execute({ force }, c.req.raw.signal));
    });
}

/** A hub starts runs, by their rules; what is behind those is the owner's. */
function ownerOnly({ signed }: ControlEnv, what: string): void {
  if (signed !== true) return;
  throw new DecoError("policy_denied", `${what} is for programs on the laptop itself`, {
    fix: `Run \`deco sandbox ${what}\` there.`,
  });
}

/** The head is out: what fails from here on is told in the stream. */
async function* framesOf(chunks: AsyncIterable<ExecChunk>): AsyncGenerator<SseFrame> {
  try {
    for await (const chunk of chunks) {
      const event = "exitCode" in chunk ? "exit" : "output";
      yield { event, data: JSON.stringify(chunk) };
    }
  } catch (thrown) {
    yield { event: "error", data: JSON.stringify(DecoError.from(thrown).toProblem()) };
  }
}
