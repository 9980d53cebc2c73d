import { type Deferred, deferred } from "../../protocol/deferred.ts";

/** Why a run waits. */
export type WaitReason = "max_runs" | "sandbox_busy";

interface Waiting {
  readonly handle: string;
  readonly turn: Deferred<void>;
}

/** Runs at the same time: so many at once (LESSONS 23), and one per sandbox. */
export class RunSlots {
  readonly #maxRuns: number;
  readonly #busy = new Map<string, number>();
  readonly #queue: Waiting[] = [];
  #active = 0;
  #paused = false;

  constructor(maxRuns: number) {
    this.#maxRuns = maxRuns;
  }

  /** From now on nobody who waits gets a turn. */
  pause(): void {
    this.#paused = true;
  }

  get active(): number {
    return this.#active;
  }

  /** Waits for its turn, in order of arrival per sandbox; `onWait` is called once when it must. */
  async take(
    handle: string,
    signal: AbortSignal,
    onWait: (reason: WaitReason) => void,
  ): Promise<Disposable> {
    signal.throwIfAborted();
    const reason = this.#obstacle(handle);
    if (reason === undefined) return this.occupy(handle);
    onWait(reason);
    const waiting: Waiting = { handle, turn: deferred() };
    this.#queue.push(waiting);
    const leave = () => {
      const index = this.#queue.indexOf(waiting);
      if (index < 0) return;
      this.#queue.splice(index, 1);
      waiting.turn.reject(signal.reason);
    };
    signal.addEventListener("abort", leave, { once: true });
    try {
      await waiting.turn.promise;
      return this.#slot(handle);
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  /** Takes a slot without asking: for runs that go on since before a restart. */
  occupy(handle: string): Disposable {
    this.#enter(handle);
    return this.#slot(handle);
  }

  #enter(handle: string): void {
    this.#active += 1;
    this.#busy.set(handle, (this.#busy.get(handle) ?? 0) + 1);
  }

  /** Undone once, however often it is disposed. */
  #slot(handle: string): Disposable {
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#active -= 1;
        const left = (this.#busy.get(handle) ?? 1) - 1;
        if (left === 0) this.#busy.delete(handle);
        else this.#busy.set(handle, left);
        this.#next();
      },
    };
  }

  #next(): void {
    if (this.#paused) return;
    for (const waiting of this.#queue.slice()) {
      if (this.#active >= this.#maxRuns) return;
      if (this.#busy.has(waiting.handle)) continue;
      this.#queue.splice(this.#queue.indexOf(waiting), 1);
      // Entered here, so that nobody slips in before the waiter goes on.
      this.#enter(waiting.handle);
      waiting.turn.resolve();
    }
  }

  #obstacle(handle: string): WaitReason | undefined {
    if (this.#busy.has(handle)) return "sandbox_busy";
    if (this.#queue.some((waiting) => waiting.handle === handle)) return "sandbox_busy";
    return this.#paused || this.#active >= this.#maxRuns ? "max_runs" : undefined;
  }
}
