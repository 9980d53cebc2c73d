import type { SandboxLog } from "./sandbox-log.ts";

/**
 * Undo steps of a provisioning. Unless {@link Rollback.keep} is called, disposing runs them, last
 * first, each with a deadline of its own, whatever became of the others (LESSONS 29).
 */
export class Rollback implements AsyncDisposable {
  readonly #steps: { name: string; undo: (signal: AbortSignal) => Promise<void> }[] = [];
  readonly #log: SandboxLog;

  constructor(log: SandboxLog) {
    this.#log = log;
  }

  add(name: string, undo: (signal: AbortSignal) => Promise<void>): void {
    this.#steps.push({ name, undo });
  }

  keep(): void {
    this.#steps.length = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { name, undo } of this.#steps.toReversed()) {
      try {
        await undo(AbortSignal.timeout(30_000));
      } catch (thrown) {
        this.#log.warn({ step: name, err: thrown }, "could not undo; reconciling will try again");
      }
    }
    this.#steps.length = 0;
  }
}
