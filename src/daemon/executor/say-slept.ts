import type { LiveRun } from "./live-run.ts";
import type { ExecutorParts } from "./parts.ts";

/** Writes into a run that it stood still with the whole laptop, and for how long. */
export function saySlept(
  { journal, log, now }: ExecutorParts,
  { dispatch }: LiveRun,
  sleptMs: number,
): void {
  const { runId, attempt } = dispatch;
  const at = new Date(now() - sleptMs).toISOString();
  try {
    journal.append(runId, attempt, [
      { type: "run.suspended", payload: { reason: "sleep", at }, at },
      { type: "run.resumed", payload: { reason: "sleep", sleptMs: Math.round(sleptMs) } },
    ]);
    journal.setProgress(runId, attempt, { sleptMs: Math.round(sleptMs) });
  } catch (error) {
    log.warn({ err: error, runId }, "the run's sleep is not in its log; it goes on");
  }
}
