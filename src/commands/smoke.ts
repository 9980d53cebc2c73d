import { randomUUID } from "node:crypto";
import type { RunEvent } from "../protocol/run-events.ts";
import type { Command, CommandContext } from "./command.ts";
import { findHub, localDaemon } from "./home.ts";
import { type ApiTarget, callApi, followRun } from "./hub-client.ts";
import { asRecord, textOf } from "./record.ts";
import { dispatchRun, exitCodeOf } from "./run.ts";
import { askStatus } from "./status.ts";
import { untilOnline } from "./up-once.ts";

interface Step {
  readonly name: string;
  readonly ms: number;
  readonly detail: string;
}

const ONLINE_LIMIT_MS = 10_000;

/** `deco smoke`: hub, link and one small run, each timed; what it made is taken away again. */
export function smoke(flags: { readonly hub?: string }): Command {
  return async (context) => {
    const { env, out, signal } = context;
    const steps: Step[] = [];
    const step = async <T>(name: string, work: () => Promise<[T, string]>): Promise<T> => {
      const before = performance.now();
      const [value, detail] = await work();
      const done = { name, ms: Math.round(performance.now() - before), detail };
      steps.push(done);
      out.note(
        `${out.green("ok")}  ${name.padEnd(6)} ${String(done.ms).padStart(6)} ms  ${detail}`,
      );
      return value;
    };
    const hub = await findHub(env, flags.hub);
    await step("hub", async () => [await callApi(hub, { path: "/healthz", signal }), hub.url]);
    const linkId = await step("link", async () => {
      const id = await untilOnline(hub, { signal, limitMs: ONLINE_LIMIT_MS });
      return [id, id];
    });
    const { end, said } = await step("run", () => smallRun(context, hub, linkId));
    const exitCode = said ? exitCodeOf(end) : exitCodeOf(end) || 1;
    const how = said ? `ended with ${end?.type ?? "nothing"}` : "did not say its word";
    out.result({ ok: exitCode === 0, linkId, steps }, () =>
      exitCode === 0 ? "the link works" : `the run ${how}`,
    );
    return exitCode;
  };
}

/** A run that says a word that nobody could have guessed, and its sandbox's removal. */
async function smallRun(
  context: CommandContext,
  hub: ApiTarget,
  link: string,
): Promise<[{ end: RunEvent | undefined; said: boolean }, string]> {
  const { signal } = context;
  const word = randomUUID();
  const body = { harness: "shell", prompt: `echo ${word}`, link };
  const runId = await dispatchRun(hub, body, signal);
  let output = "";
  let handle = "";
  let last: RunEvent | undefined;
  for await (const event of followRun(hub, { runId, signal })) {
    last = event;
    if (event.type === "tool.output.delta") output += textOf(event.payload["content"]);
    if (event.type === "sandbox.ready") handle = textOf(event.payload["handle"]);
  }
  await takeAway(context, link, handle);
  const said = output.includes(word);
  const heard = said ? "said its word" : `said ${JSON.stringify(output.slice(0, 80))}`;
  return [{ end: last, said }, `${last?.type ?? "no end"}, ${heard}`];
}

/** Only where the link is this machine's own: another's sandboxes are not ours to remove. */
async function takeAway(context: CommandContext, link: string, handle: string): Promise<void> {
  const snapshot = asRecord(await askStatus(context).catch(() => undefined));
  if (handle === "" || snapshot["linkId"] !== link) return;
  const path = `/v1/sandboxes/${encodeURIComponent(handle)}`;
  const call = { method: "DELETE", path, signal: context.signal };
  await callApi(localDaemon(context.env), call).catch((thrown: unknown) =>
    context.out.note(`the sandbox ${handle} stays: ${String(thrown)}`),
  );
}
