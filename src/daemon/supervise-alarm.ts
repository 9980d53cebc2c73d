/** A wait that a happening can cut short: a wake, a new run, renewed credentials. */
export class Alarm {
  readonly #waiting = new Set<() => void>();
  #rings = 0;

  /** How often it has rung; for `since` below. */
  get rings(): number {
    return this.#rings;
  }

  /** Ends every wait that is under way. */
  ring(): void {
    this.#rings += 1;
    for (const end of this.#waiting) end();
  }

  /**
   * Waits `ms` milliseconds (for ever with Infinity), until rung, or until `signal` aborts. Never
   * throws.
   *
   * @param since - {@link Alarm.rings} as it was before the work that this wait follows: a ring
   *   during that work is not missed.
   */
  wait(
    ms: number,
    signal: AbortSignal,
    since: number = this.#rings,
  ): Promise<"elapsed" | "rung" | "aborted"> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve("aborted");
      if (since !== this.#rings) return resolve("rung");
      let timer: NodeJS.Timeout | undefined;
      const settle = (how: "elapsed" | "rung" | "aborted") => {
        clearTimeout(timer);
        signal.removeEventListener("abort", aborted);
        this.#waiting.delete(rung);
        resolve(how);
      };
      const aborted = () => settle("aborted");
      const rung = () => settle("rung");
      signal.addEventListener("abort", aborted, { once: true });
      this.#waiting.add(rung);
      if (ms !== Number.POSITIVE_INFINITY) timer = setTimeout(settle, Math.max(0, ms), "elapsed");
    });
  }
}
