import { createHash } from "node:crypto";
import { DecoError } from "../../protocol/errors.ts";
import type { DispatchRun } from "../../protocol/messages.ts";
import { harnessClient } from "../../sandbox/harness-client.ts";
import type { RunRecord } from "../journal.ts";
import { endRun, type RunOutcome } from "./end-run.ts";
import type { LiveRun } from "./live-run.ts";
import type { ExecutorParts } from "./parts.ts";
import { provision } from "./provision.ts";
import { LegError, onLeg } from "./run-failure.ts";
import { runToEnd, startHarness } from "./run-harness.ts";

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
      sayStarted(parts, live);
      return await beforeDeadline(live, parts.now(), parts.now(), async () => {
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
  const slot = parts.slots.occupy(live.handle);
  try {
    const outcome = await outcomeOf(() =>
      beforeDeadline(live, record.createdAt, parts.now(), async () => {
        await findSandbox(parts, live, record);
        return { type: "harness", event: await runToEnd(parts, live) };
      }),
    );
    await endRun(parts, live, outcome);
  } finally {
    slot[Symbol.dispose]();
  }
}

async function findSandbox(parts: ExecutorParts, live: LiveRun, record: RunRecord): Promise<void> {
  const { provider, handle, signal } = live;
  const { runId, harnessRunId } = record;
  if (harnessRunId === undefined) {
    // Nobody knows whether harnessd was told: starting it again could run it twice (LESSONS 17).
    const detail = "the daemon restarted just when it started the harness";
    throw new LegError("daemon", new DecoError("sandbox_lost", detail));
  }
  await onLeg("sandbox", "sandbox_lost", async () => {
    const info = await provider.inspect(handle, signal);
    if (info === undefined || info.status === "stopped") {
      throw new DecoError("sandbox_lost", `sandbox ${handle} ended while the daemon was away`);
    }
    parts.modelProxy.grant(runId);
    const client = harnessClient(await provider.endpoint(handle, signal));
    live.sandbox = info;
    live.harness = { client, runId: harnessRunId };
    await parts.sandboxes.reopen(provider, info, signal);
  });
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
function sayStarted({ journal }: ExecutorParts, { dispatch, provider, handle }: LiveRun): void {
  const { runId, attempt } = dispatch;
  // A run that was interrupted while its sandbox was made said it before the restart.
  if (journal.state(runId, attempt)?.status === "queued") {
    journal.append(runId, attempt, [{ type: "run.started", payload: startedPayload(dispatch) }]);
  }
  journal.setProgress(runId, attempt, { phase: "provisioning", handle, provider: provider.name });
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

/** Stops the run when its time, counted from `since`, is over. */
async function beforeDeadline<T>(
  live: LiveRun,
  since: number,
  now: number,
  work: () => Promise<T>,
): Promise<T> {
  const seconds = live.dispatch.options?.timeoutSeconds;
  if (seconds === undefined) return await work();
  const inMs = Math.max(0, since + seconds * 1000 - now);
  const timer = setTimeout(() => live.stop("timeout"), inMs);
  try {
    return await work();
  } finally {
    clearTimeout(timer);
  }
}
