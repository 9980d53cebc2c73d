import { setTimeout as sleep } from "node:timers/promises";
import { DecoError } from "../../protocol/errors.ts";
import type { HarnessEvent } from "../../sandbox/harness-client.ts";
import type { JournalDraft } from "../journal.ts";
import type { LiveRun } from "./live-run.ts";
import { lostSandbox } from "./lost-sandbox.ts";
import { nameOutOfMemory } from "./name-out-of-memory.ts";
import type { ExecutorParts } from "./parts.ts";
import { proveGone } from "./prove-gone.ts";
import { takeReceipt } from "./receipt.ts";
import { failurePayload, harnessFailure, LegError } from "./run-failure.ts";
import { stopReason } from "./run-stop.ts";

/** How a run's own work came to its end. */
export type RunOutcome =
  | { readonly type: "harness"; readonly event: HarnessEvent }
  | { readonly type: "error"; readonly error: unknown };

/** After a failure the processes are ended, too, but an engine that is down can't delay the news. */
const CLEAN_UP_MS = 10_000;
const DISK_RETRY_IN_MS = 1000;

/** Journals the one terminal event, after the daemon's own look. None when the daemon leaves. */
export async function endRun(
  parts: ExecutorParts,
  live: LiveRun,
  outcome: RunOutcome,
): Promise<void> {
  const { runId, attempt } = live.dispatch;
  if (stopReason(live.signal) === "leaving") return;
  // The token dies before the end is told: whoever reads the end may rely on it.
  parts.modelProxy.revoke(runId);
  const terminal = await terminalEvent(parts, live, outcome);
  for (;;) {
    parts.leaving.throwIfAborted();
    try {
      parts.journal.append(runId, attempt, [terminal]);
      return;
    } catch (error) {
      parts.log.error({ err: error, runId }, "the run's end is not on disk; again in 1 s");
      await sleep(DISK_RETRY_IN_MS, undefined, { signal: parts.leaving });
    }
  }
}

async function terminalEvent(
  parts: ExecutorParts,
  live: LiveRun,
  outcome: RunOutcome,
): Promise<JournalDraft> {
  const reason = stopReason(live.signal);
  if (reason === "cancelled" || reason === "superseded")
    return await cancelled(parts, live, reason);
  if (reason === "lost") return await failed(parts, live, lostSandbox(live));
  if (reason === "timeout") return await failed(parts, live, timedOut(live));
  if (outcome.type === "error") return await failed(parts, live, outcome.error);
  const { event } = outcome;
  if (event.type === "run.cancelled") return await failed(parts, live, toldToStop(live));
  try {
    const tell = event.type === "run.completed" ? completed : harnessFailed;
    return await tell(parts, live, event);
  } catch (error) {
    return await failed(parts, live, error);
  }
}

async function completed(
  parts: ExecutorParts,
  live: LiveRun,
  { payload }: HarnessEvent,
): Promise<JournalDraft> {
  const { output, exitCode } = payload;
  const receipt = await takeReceipt(parts, live);
  const usage = parts.modelProxy.usage(live.dispatch.runId);
  return {
    type: "run.completed",
    payload: {
      output: typeof output === "string" ? output : "",
      ...(typeof exitCode === "number" ? { exitCode } : {}),
      ...(usage.requests > 0 ? { usage } : {}),
      receipt,
    },
  };
}

/** The harness ended by itself: its processes are counted, not killed; a thread may have a server. */
async function harnessFailed(
  parts: ExecutorParts,
  live: LiveRun,
  { payload }: HarnessEvent,
): Promise<JournalDraft> {
  const failure = await nameOutOfMemory(live, harnessFailure(payload), parts.leaving);
  parts.log.info({ runId: live.dispatch.runId, err: failure }, "the harness failed");
  const receipt = await takeReceipt(parts, live);
  return { type: "run.failed", payload: { ...failurePayload(failure), receipt } };
}

async function cancelled(
  parts: ExecutorParts,
  live: LiveRun,
  reason: "cancelled" | "superseded",
): Promise<JournalDraft> {
  if (live.touched) await proveGone(goneOptions(parts, live, parts.leaving));
  const why = reason === "superseded" ? { reason } : {};
  return { type: "run.cancelled", payload: { processesLeft: 0, ...why } };
}

async function failed(parts: ExecutorParts, live: LiveRun, thrown: unknown): Promise<JournalDraft> {
  const error = await nameOutOfMemory(live, thrown, parts.leaving);
  parts.log.warn({ err: error, runId: live.dispatch.runId }, "the run failed");
  return failedEvent(error, live.told ? await cleanUp(parts, live) : undefined);
}

function failedEvent(error: unknown, processesLeft: number | undefined): JournalDraft {
  const left = processesLeft === undefined ? {} : { processesLeft };
  return { type: "run.failed", payload: { ...failurePayload(error), ...left } };
}

/** Zero when it is proven, undefined when nobody could look in time. */
async function cleanUp(parts: ExecutorParts, live: LiveRun): Promise<number | undefined> {
  const signal = AbortSignal.any([parts.leaving, AbortSignal.timeout(CLEAN_UP_MS)]);
  try {
    await proveGone(goneOptions(parts, live, signal));
    return 0;
  } catch (error) {
    parts.leaving.throwIfAborted();
    parts.log.warn({ err: error, handle: live.handle }, "processes of a failed run may be left");
    return undefined;
  }
}

function goneOptions({ sandboxes, log }: ExecutorParts, live: LiveRun, leaving: AbortSignal) {
  return { provider: live.provider, handle: live.handle, sandboxes, log, leaving };
}

/** Nobody cancelled the run, but its harness was ended: an engine that restarts does that to it. */
function toldToStop({ handle }: LiveRun): LegError {
  const detail = `sandbox ${handle} was told to stop while its run worked`;
  return new LegError("sandbox", new DecoError("sandbox_lost", detail));
}

function timedOut({ dispatch }: LiveRun): LegError {
  const seconds = dispatch.options?.timeoutSeconds ?? 0;
  return new LegError(
    "harness",
    new DecoError("budget_exceeded", `it took longer than ${seconds} s`),
  );
}
