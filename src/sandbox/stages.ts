import type { StageProgress } from "./provider.ts";

/** Progress is told in steps: it becomes events, which are written to disk. */
const STEP = 0.05;

/** Times the stages of one provisioning, in milliseconds. */
export class Stages {
  readonly #startedAt = performance.now();
  readonly #times: Record<string, number> = {};
  readonly #told = new Map<string, number>();
  readonly #onStage: (stage: string) => void;
  readonly #onProgress: ((told: StageProgress) => void) | undefined;

  constructor(onStage: (stage: string) => void, onProgress?: (told: StageProgress) => void) {
    this.#onStage = onStage;
    this.#onProgress = onProgress;
  }

  /** A stage may hold others; its time is then theirs, too. */
  async run<T>(stage: string, work: () => Promise<T>): Promise<T> {
    const from = performance.now();
    this.#onStage(stage);
    const past = () => Math.round(performance.now() - from);
    try {
      const result = await work();
      this.#onProgress?.({ stage, ms: past() });
      return result;
    } finally {
      this.#times[stage] = past();
    }
  }

  /** How far a stage is, 0 to 1; told in steps of 0.05, never downwards. */
  progress(stage: string, fraction: number): void {
    const progress = Math.min(1, Math.floor(fraction / STEP) * STEP);
    const before = this.#told.get(stage) ?? 0;
    if (progress < before + STEP / 2) return;
    this.#told.set(stage, progress);
    this.#onProgress?.({ stage, progress: Number(progress.toFixed(2)) });
  }

  result(): { readyMs: number; stages: Record<string, number> } {
    return {
      readyMs: Math.round(performance.now() - this.#startedAt),
      stages: { ...this.#times },
    };
  }
}
