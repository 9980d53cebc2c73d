import { setTimeout as delay } from "node:timers/promises";
import { DecoError } from "../protocol/errors.ts";
import type { HarnessName } from "../protocol/messages.ts";
import { type RunEvent, terminalStatus } from "../protocol/run-events.ts";
import type { CommandContext } from "./command.ts";
import { type ApiTarget, callApi, followRun } from "./hub-client.ts";
import { printEvent } from "./print-event.ts";
import { asRecord, textOf } from "./record.ts";
import { dispatchRun, exitCodeOf } from "./run.ts";

/**
 * Proves where it ran: kernel, host, user, and a file in the workspace that is read back. By its
 * relative name: unconfined, the workspace is a folder of the host and not /workspace.
 */
export const SHELL_PROMPT = `set -eu
echo "kernel: $(uname -a)"
echo "host: $(hostname)"
echo "user: $(id)"
echo "written in $(hostname) by uid $(id -u)" > proof.txt
echo "proof: $(cat "$PWD/proof.txt")"`;

const AGENT_PROMPT =
  "Run `uname -a` and `id`, write both to proof.txt, then say in one sentence where you ran.";

export interface OnceOptions {
  readonly hub: ApiTarget;
  readonly daemon: ApiTarget;
  readonly linkId?: string;
  readonly harness: HarnessName;
  readonly prompt: string | undefined;
  readonly provider: string | undefined;
  /** Milliseconds from the start of the program's work, by `performance.now()`. */
  readonly startedAt: number;
  /** Spans that are known already, such as `hubMs`. */
  readonly timings: Readonly<Record<string, number>>;
}

/** The last line of `deco up --once --json`. */
export interface OnceSummary {
  readonly ok: boolean;
  readonly runId: string;
  readonly provider: string | null;
  readonly status: string;
  readonly timings: Readonly<Record<string, number>>;
  readonly events: number;
}

/**
 * Dispatches one run by HTTP, like any client, prints its events as they come, and removes its
 * sandbox. Gives the summary, to be printed last, and the exit code.
 */
export async function once(
  context: CommandContext,
  options: OnceOptions,
): Promise<{ summary: OnceSummary; exitCode: number }> {
  const { hub, harness, provider, startedAt, linkId } = options;
  const since = () => Math.round(performance.now() - startedAt);
  const prompt = options.prompt ?? (harness === "shell" ? SHELL_PROMPT : AGENT_PROMPT);
  const sandbox = provider === undefined ? {} : { sandbox: { provider } };
  const link = linkId === undefined ? {} : { link: linkId };
  const dispatchedAt = since();
  const runId = await dispatchRun(hub, { harness, prompt, ...link, ...sandbox }, context.signal);
  const acceptedAt = since();
  const watched = await watch(context, options, runId, since);
  const removal = await removeSandbox(context, options.daemon, watched.handle);
  const timings = {
    ...options.timings,
    acceptMs: acceptedAt - dispatchedAt,
    ...spans(watched.marks, dispatchedAt),
    removeMs: removal,
    totalMs: since(),
  };
  const status = terminalStatus(watched.last?.type ?? "") ?? "failed";
  const exitCode = exitCodeOf(watched.last);
  const events = watched.count;
  const summary = {
    ok: exitCode === 0,
    runId,
    provider: watched.provider,
    status,
    timings,
    events,
  };
  return { summary, exitCode };
}

interface Watched {
  last: RunEvent | undefined;
  count: number;
  handle: string | undefined;
  provider: string | null;
  /** Milliseconds since the start at which each type was first seen. */
  readonly marks: Map<string, number>;
}

/** Reads the run to its end; the first signal cancels it and the end is still awaited. */
async function watch(
  { out, signal }: CommandContext,
  { hub }: OnceOptions,
  runId: string,
  since: () => number,
): Promise<Watched> {
  const seen: Watched = {
    last: undefined,
    count: 0,
    handle: undefined,
    provider: null,
    marks: new Map(),
  };
  const end = new AbortController();
  const cancel = () => {
    out.note("cancelling the run");
    const path = `/api/runs/${runId}/cancel`;
    callApi(hub, { method: "POST", path, body: {}, signal: end.signal }).catch(() => undefined);
  };
  if (signal.aborted) cancel();
  else signal.addEventListener("abort", cancel, { once: true });
  try {
    for await (const event of followRun(hub, { runId, signal: end.signal })) {
      seen.last = event;
      seen.count += 1;
      if (!seen.marks.has(event.type)) seen.marks.set(event.type, since());
      const place =
        event.type === "sandbox.ready" ? event.payload : asRecord(event.payload["receipt"]);
      seen.handle ??= textOf(place["handle"]) || undefined;
      seen.provider ??= textOf(place["provider"]) || null;
      printEvent(out, event);
    }
    return seen;
  } finally {
    signal.removeEventListener("abort", cancel);
    end.abort(new DecoError("draining", "the run is over"));
  }
}

function spans(marks: ReadonlyMap<string, number>, from: number): Record<string, number> {
  const first = (...types: string[]) => {
    const times = types.flatMap((type) => marks.get(type) ?? []);
    return times.length === 0 ? undefined : Math.min(...times) - from;
  };
  const named = {
    startedMs: first("run.started"),
    sandboxReadyMs: first("sandbox.ready"),
    firstOutputMs: first("assistant.message.delta", "tool.output.delta", "tool.call.started"),
    endMs: first("run.completed", "run.failed", "run.cancelled"),
  };
  return Object.fromEntries(
    Object.entries(named).flatMap(([name, ms]) => (ms === undefined ? [] : [[name, ms]])),
  );
}

/** Removes the run's sandbox; gives the time it took in ms. */
async function removeSandbox(
  { out }: CommandContext,
  daemon: ApiTarget,
  handle: string | undefined,
): Promise<number> {
  if (handle === undefined) return 0;
  const before = performance.now();
  const path = `/v1/sandboxes/${encodeURIComponent(handle)}?force=true`;
  // Even after a signal: what this command made it takes away.
  const signal = AbortSignal.timeout(60_000);
  await callApi(daemon, { method: "DELETE", path, signal, headersTimeoutMs: 60_000 }).catch(
    (thrown: unknown) =>
      out.note(`could not remove sandbox ${handle}: ${DecoError.from(thrown).message}`),
  );
  return Math.round(performance.now() - before);
}

/** Waits until the hub shows a link of ours as online; gives its id. */
export async function untilOnline(
  hub: ApiTarget,
  options: { readonly signal: AbortSignal; readonly limitMs: number },
): Promise<string> {
  const deadline = performance.now() + options.limitMs;
  while (true) {
    const answer = asRecord(await callApi(hub, { path: "/api/links/me", signal: options.signal }));
    const link = asRecord(answer["link"]);
    if (answer["status"] === "online" && link["reachable"] !== false) return textOf(link["linkId"]);
    if (performance.now() > deadline)
      throw new DecoError(
        "link_offline",
        `the link is ${textOf(answer["status"])} after ${options.limitMs} ms`,
      );
    await delay(50, undefined, { signal: options.signal });
  }
}
