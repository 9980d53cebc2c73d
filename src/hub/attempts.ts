import { DecoError } from "../protocol/errors.ts";

/** Counts failed guesses per name in a window; the memory it takes is bounded. */
export class Attempts {
  readonly #failures = new Map<string, { count: number; until: number }>();
  readonly #max: number;
  readonly #windowMs: number;
  readonly #now: () => number;

  constructor(o: { max: number; windowMs: number; now: () => number }) {
    this.#max = o.max;
    this.#windowMs = o.windowMs;
    this.#now = o.now;
  }

  /** @throws DecoError rate_limited */
  check(name: string): void {
    const entry = this.#failures.get(name);
    if (entry === undefined || entry.until <= this.#now()) return;
    if (entry.count >= this.#max) throw new DecoError("rate_limited", "too many wrong codes");
  }

  failed(name: string): void {
    const now = this.#now();
    for (const [other, { until }] of this.#failures) if (until <= now) this.#failures.delete(other);
    const entry = this.#failures.get(name) ?? { count: 0, until: now + this.#windowMs };
    this.#failures.set(name, { ...entry, count: entry.count + 1 });
  }
}
