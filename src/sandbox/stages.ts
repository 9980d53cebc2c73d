/** Times the stages of one provisioning, in milliseconds. */
export class Stages {
  readonly #startedAt = performance.now();
  readonly #times: Record<string, number> = {};
  readonly #onStage: (stage: string) => void;

  constructor(onStage: (stage: string) => void) {
    this.#onStage = onStage;
  }

  async run<T>(stage: string, work: () => Promise<T>): Promise<T> {
    const from = performance.now();
    this.#onStage(stage);
    try {
      return await work();
    } finally {
      this.#times[stage] = Math.round(performance.now() - from);
    }
  }

  result(): { readyMs: number; stages: Record<string, number> } {
    return {
      readyMs: Math.round(performance.now() - this.#startedAt),
      stages: { ...this.#times },
    };
  }
}
