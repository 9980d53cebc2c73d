/** Why a run is stopped from outside. */
export type StopReason = "cancelled" | "superseded" | "timeout" | "lost" | "leaving";

/** The reason of an aborted run's signal. */
export class RunStopped extends Error {
  override readonly name = "RunStopped";
  readonly reason: StopReason;

  constructor(reason: StopReason) {
    super(`the run was stopped: ${reason}`);
    this.reason = reason;
  }
}

/** Why a signal of ours was aborted, else undefined. */
export function stopReason(signal: AbortSignal): StopReason | undefined {
  const reason: unknown = signal.reason;
  return signal.aborted && reason instanceof RunStopped ? reason.reason : undefined;
}
