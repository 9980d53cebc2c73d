import { untilAbort } from "./until-abort.ts";

interface Work<T> {
  readonly promise: Promise<T>;
  readonly stop: AbortController;
  callers: number;
}

/**
 * Lets concurrent callers of the same key share one piece of work. A caller that aborts leaves; the
 * work itself is aborted when the last caller has left, and is over (rolled back) before the next
 * one of that key begins.
 */
export class SharedWork<T> {
  readonly #works = new Map<string, Work<T>>();

  /** Whether work of this key is going on. */
  has(key: string): boolean {
    return this.#works.has(key);
  }

  async run(
    key: string,
    signal: AbortSignal,
    start: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    signal.throwIfAborted();
    let work = this.#works.get(key);
    while (work?.stop.signal.aborted) {
      await work.promise.catch(() => undefined);
      signal.throwIfAborted();
      work = this.#works.get(key);
    }
    work ??= this.#begin(key, start);
    return await this.#join(work, signal);
  }

  #begin(key: string, start: (signal: AbortSignal) => Promise<T>): Work<T> {
    const stop = new AbortController();
    const promise = start(stop.signal).finally(() => this.#works.delete(key));
    promise.catch(() => undefined);
    const work = { promise, stop, callers: 0 };
    this.#works.set(key, work);
    return work;
  }

  async #join(work: Work<T>, signal: AbortSignal): Promise<T> {
    work.callers += 1;
    try {
      return await untilAbort(work.promise, signal);
    } finally {
      work.callers -= 1;
      if (signal.aborted && work.callers === 0) {
        work.stop.abort(signal.reason);
        // The rollback is part of the last caller's wait: nothing half-made is left behind.
        await work.promise.catch(() => undefined);
      }
    }
  }
}
