import { createHash } from "node:crypto";
import type { DispatchRun } from "../../protocol/messages.ts";
import type { RunRecord } from "../journal.ts";
import { beforeDeadline } from "./deadline.ts";
import { endRun, type RunOutcome } from "./end-run.ts";
import { findSandbox } from "./find-sandbox.ts";
import type { LiveRun } from "./live-run.ts";
import type { ExecutorParts } from "./parts.ts";
import { provision } from "./provision.ts";
import { onLeg } from "./run-failure.ts";
import { runToEnd } from "./run-harness.ts";
import { startHarness } from "./start-harness.ts";

/** One attempt from its turn to its terminal event. Rejects only when the daemon leaves. */
export async function performRun(
  parts: ExecutorParts,
  live: LiveRun,
  previous: Promise<void> | undefined,
): Promise<void> {
  let slot: Disposable | undefined;
  try {
    const outcome = await outcomeOf(async () => {
      await previousGone(parts, live, previous);
      slot = await waitForTurn(parts, live);
      live.begun = true;
      sayStarted(parts, live);
      return await beforeDeadline(parts, live, async () => {
        live.touched = true;
        live.sandbox = await onLeg("sandbox", "sandbox_failed", () => provision(parts, live));
        live.signal.throwIfAborted();
        await startHarness(parts, live);
        return { type: "harness", event: await runToEnd(parts, live) };
      });
    });
    await endRun(parts, live, outcome);
  } finally {
    slot?.[Symbol.dispose]();
  }
}

/** Goes on with a run that was told to its harness before this daemon started. */
export async function adoptRun(
  parts: ExecutorParts,
  live: LiveRun,
  record: RunRecord,
): Promise<void> {
  live.touched = true;
  live.told = true;
  live.begun = true;
  const slot = parts.slots.occupy(live.handle);
  // Asked now: later the hub may have acknowledged what says so.
  const suspended = endsSuspended(parts, record);
  try {
    const outcome = await outcomeOf(() =>
      beforeDeadline(parts, live, async () => {
        await findSandbox(parts, live, record);
        if (suspended) sayResumed(parts, record);
        return { type: "harness", event: await runToEnd(parts, live) };
      }),
    );
    await endRun(parts, live, outcome);
  } finally {
    slot[Symbol.dispose]();
  }
}

/** The daemon before ended while the journal was full: what it began to say is said to its end. */
function sayResumed({ journal }: ExecutorParts, { runId, attempt }: RunRecord): void {
  journal.append(runId, attempt, [{ type: "run.resumed", payload: { reason: "journal_full" } }]);
}

function endsSuspended({ journal }: ExecutorParts, { runId, attempt }: RunRecord): boolean {
  const record = journal.record(runId, attempt);
  if (!record || record.lastSeq === record.ackedSeq) return false;
  return journal.read(runId, attempt, record.lastSeq - 1, 1)[0]?.type === "run.suspended";
}

async function outcomeOf(work: () => Promise<RunOutcome>): Promise<RunOutcome> {
  try {
    return await work();
  } catch (error) {
    return { type: "error", error };
  }
}

/** A higher attempt starts only after the lower one is proven gone. */
async function previousGone(
  { journal }: ExecutorParts,
  { dispatch, signal }: LiveRun,
  previous: Promise<void> | undefined,
): Promise<void> {
  if (!previous) return;
  const { runId, attempt } = dispatch;
  journal.append(runId, attempt, [{ type: "run.queued", payload: { reason: "previous_attempt" } }]);
  await previous;
  signal.throwIfAborted();
}

async function waitForTurn(
  { journal, slots }: ExecutorParts,
  { dispatch, handle, signal }: LiveRun,
): Promise<Disposable> {
  const { runId, attempt } = dispatch;
  return await slots.take(handle, signal, (reason) => {
    journal.append(runId, attempt, [{ type: "run.queued", payload: { reason } }]);
  });
}

/** `run.started` carries enough for a hub that lost its own record of the run. */
function sayStarted(parts: ExecutorParts, { dispatch, provider, handle }: LiveRun): void {
  const { journal, now } = parts;
  const { runId, attempt } = dispatch;
  // A run that was interrupted while its sandbox was made said it before the restart.
  if (journal.state(runId, attempt)?.status === "queued") {
    journal.append(runId, attempt, [{ type: "run.started", payload: startedPayload(dispatch) }]);
  }
  journal.setProgress(runId, attempt, {
    phase: "provisioning",
    handle,
    provider: provider.name,
    startedAt: now(),
  });
}

function startedPayload(dispatch: DispatchRun): Record<string, unknown> {
  const { attempt, harness, user, thread, branch, prompt } = dispatch;
  const promptSha256 = createHash("sha256").update(prompt).digest("hex");
  return {
    attempt,
    harness,
    ...(user === undefined ? {} : { user }),
    ...(thread === undefined ? {} : { thread }),
    ...(branch === undefined ? {} : { branch }),
    promptSha256,
  };
}
