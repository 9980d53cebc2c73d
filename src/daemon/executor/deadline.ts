import type { LiveRun } from "./live-run.ts";
import type { ExecutorParts } from "./parts.ts";

/**
 * Stops the run when its time is over. It counts from the run's turn, not from its time in the
 * queue, over restarts of the daemon, and without the time that the laptop slept: timers stand
 * still then, and what was slept before a restart is in the ledger.
 */
export async function beforeDeadline<T>(
  { journal, now }: ExecutorParts,
  live: LiveRun,
  work: () => Promise<T>,
): Promise<T> {
  const { runId, attempt, options } = live.dispatch;
  const seconds = options?.timeoutSeconds;
  if (seconds === undefined) return await work();
  const record = journal.record(runId, attempt);
  const goneMs = now() - (record?.startedAt ?? now()) - (record?.sleptMs ?? 0);
  const inMs = Math.min(seconds * 1000, Math.max(0, seconds * 1000 - goneMs));
  const timer = setTimeout(() => live.stop("timeout"), inMs);
  try {
    return await work();
  } finally {
    clearTimeout(timer);
  }
}
