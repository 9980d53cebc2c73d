import type { WarmOrder } from "./warm-pool.ts";

const MINUTE = 60_000;
/** A spec is in use for so long after its last new sandbox. */
const IN_USE_MS = 30 * MINUTE;
/** Two new sandboxes of one spec in this time: then two are kept. */
const BUSY_MS = 5 * MINUTE;
const BACK_OFF = { first: 5_000, most: 10 * MINUTE } as const;

/** What is known of one spec that is in use. */
interface Use {
  readonly order: WarmOrder;
  /** Unix ms: when it was wanted last, and the time before that. */
  readonly at: readonly number[];
  /** Since one was made ahead. */
  readonly failures: number;
  /** Unix ms. */
  readonly retryAt: number;
  readonly reason: string;
}

const failing = ({ failures }: Use) => Number(failures > 0);

/** How many of one spec shall be ready. */
interface Planned {
  readonly use: Use;
  readonly count: number;
}

/** Which specs are in use, how much, and which of them can't be made ahead just now. */
export class WarmUses {
  readonly #uses = new Map<string, Use>();
  readonly #size: number;
  readonly #now: () => number;

  /** @param size most of all specs together; @param now unix ms */
  constructor(size: number, now: () => number) {
    this.#size = size;
    this.#now = now;
  }

  /** Notes that there is a new sandbox of this spec. */
  note(order: WarmOrder): void {
    const before = this.#uses.get(order.key);
    const at = [this.#now(), ...(before?.at ?? [])].slice(0, 2);
    const { failures = 0, retryAt = 0, reason = "" } = before ?? {};
    this.#uses.set(order.key, { order, at, failures, retryAt, reason });
  }

  /** How many of each spec shall be ready; 0 of those that are not named. */
  wanted(): ReadonlyMap<string, number> {
    return new Map(this.#plan().map(({ use, count }) => [use.order.key, count]));
  }

  /** What to make next. @param has how many of a spec are ready */
  missing(has: (key: string) => number): WarmOrder | undefined {
    const isDue = ({ use, count }: Planned) =>
      has(use.order.key) < count && this.#now() >= use.retryAt;
    return this.#plan().find(isDue)?.use.order;
  }

  made(key: string): void {
    this.#change(key, { failures: 0 });
  }

  /** @returns milliseconds until it is tried again */
  failed(key: string, reason: string): number {
    const failures = this.#uses.get(key)?.failures ?? 0;
    const inMs = Math.min(BACK_OFF.first * 2 ** failures, BACK_OFF.most);
    this.#change(key, { failures: failures + 1, retryAt: this.#now() + inMs, reason });
    return inMs;
  }

  /** The spec that is tried again first, of those that failed. */
  waiting(): { readonly retryAt: string; readonly reason: string } | undefined {
    const [next] = [...this.#uses.values()]
      .filter(({ retryAt }) => retryAt > this.#now())
      .toSorted((a, b) => a.retryAt - b.retryAt);
    return next && { retryAt: new Date(next.retryAt).toISOString(), reason: next.reason };
  }

  forgetOld(): void {
    for (const [key, use] of this.#uses) if (!this.#isRecent(use)) this.#uses.delete(key);
  }

  #isRecent = ({ at: [last = 0] }: Use) => this.#now() - last < IN_USE_MS;

  /** The spec used last comes first, one that can't be made last of all. */
  #plan(): Planned[] {
    const recent = [...this.#uses.values()]
      .filter(this.#isRecent)
      .toSorted((a, b) => failing(a) - failing(b) || (b.at[0] ?? 0) - (a.at[0] ?? 0));
    let room = this.#size;
    return recent.flatMap((use) => {
      const before = use.at[1];
      const wish = before !== undefined && this.#now() - before < BUSY_MS ? 2 : 1;
      const count = Math.min(wish, room);
      room -= count;
      return count === 0 ? [] : [{ use, count }];
    });
  }

  #change(key: string, change: Partial<Use>): void {
    const use = this.#uses.get(key);
    if (use !== undefined) this.#uses.set(key, { ...use, ...change });
  }
}
