import { setTimeout as sleep } from "node:timers/promises";
import { DecoError } from "../../protocol/errors.ts";
import type { HarnessEvent } from "../../sandbox/harness-client.ts";
import { followHarness } from "./follow-harness.ts";
import type { LiveRun } from "./live-run.ts";
import type { ExecutorParts } from "./parts.ts";
import { LegError, onLeg } from "./run-failure.ts";
import { stopReason } from "./run-stop.ts";

/** How long a stopped harness may still speak before its processes are ended from outside. */
const TAIL_MS = 800;
/** Rounds of reconnects without progress while the sandbox itself is said to run (about 15 s). */
const ROUNDS = 8;

/** Follows the harness to its terminal event; a stop asks it to end first. */
export async function runToEnd(parts: ExecutorParts, live: LiveRun): Promise<HarnessEvent> {
  const late = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const onStop = () => {
    const { harness } = live;
    if (stopReason(live.signal) === "leaving" || !harness) return late.abort(live.signal.reason);
    timer = setTimeout(() => late.abort(live.signal.reason), TAIL_MS);
    harness.client.cancel(harness.runId, late.signal).catch((error: unknown) => {
      parts.log.debug({ err: error }, "harnessd took no cancel; its processes are ended next");
    });
  };
  live.signal.addEventListener("abort", onStop, { once: true });
  try {
    if (live.signal.aborted) onStop();
    return await onLeg("harness", "harness_unreachable", () => follow(parts, live, late.signal));
  } finally {
    clearTimeout(timer);
    live.signal.removeEventListener("abort", onStop);
  }
}

/** Follows over lost connections, as long as the sandbox is not known to be gone. */
async function follow(parts: ExecutorParts, live: LiveRun, signal: AbortSignal) {
  const { journal, now } = parts;
  const { dispatch, provider, handle, harness } = live;
  const { runId, attempt } = dispatch;
  if (!harness) throw new DecoError("harness_unreachable", "the harness was never started");
  const { client, runId: harnessRunId } = harness;
  let lastSeq = 0;
  for (let round = 1; ; round++) {
    const reached = journal.state(runId, attempt)?.lastSeq ?? 0;
    if (reached > lastSeq) round = 1;
    lastSeq = reached;
    try {
      return await followHarness({ journal, client, harnessRunId, runId, attempt, now, signal });
    } catch (thrown) {
      signal.throwIfAborted();
      const error = DecoError.from(thrown, "harness_unreachable");
      if (error.code === "storage_failed") throw new LegError("daemon", error);
      const status = await statusOf(live, signal);
      if (status === "gone") {
        const lost = new DecoError("sandbox_lost", `sandbox ${handle} is gone: ${error.message}`);
        throw new LegError("sandbox", lost);
      }
      if (error.code === "run_not_found") {
        throw new DecoError("harness_failed", `harnessd knows nothing of the run any more`);
      }
      if (error.code !== "harness_unreachable") throw error;
      // An engine that does not answer is no proof of anything (LESSONS 27).
      if (status === "running" && round >= ROUNDS) throw error;
      await sleep(status === "unknown" ? 1000 : Math.min(200 * round, 1500), undefined, { signal });
      parts.log.info({ runId, handle, provider: provider.name, round }, "harness lost; again");
    }
  }
}

/** Whether the run's own sandbox still runs: same engine id, same start. */
async function statusOf(
  live: LiveRun,
  signal: AbortSignal,
): Promise<"running" | "unknown" | "gone"> {
  const { provider, handle, sandbox } = live;
  try {
    const info = await provider.inspect(
      handle,
      AbortSignal.any([signal, AbortSignal.timeout(10_000)]),
    );
    if (info === undefined || info.status === "stopped") return "gone";
    if (info.status === "unknown") return "unknown";
    const same = !sandbox || (sandbox.id === info.id && sandbox.startedAt === info.startedAt);
    return same ? "running" : "gone";
  } catch {
    signal.throwIfAborted();
    return "unknown";
  }
}
