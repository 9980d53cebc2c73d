/** Wakes whoever waits for something of a key to change; no polling, no lost wake-up. */
export class Wakeups {
  readonly #waiting = new Map<string, Set<() => void>>();

  wake(key: string): void {
    const callbacks = this.#waiting.get(key);
    if (callbacks === undefined) return;
    this.#waiting.delete(key);
    for (const callback of callbacks) callback();
  }

  wakeAll(): void {
    for (const key of this.#waiting.keys()) this.wake(key);
  }

  /**
   * Resolves with the next wake of the key, or when the signal aborts. Look and wait without an
   * await between them, or a change is lost.
   */
  next(key: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) {
        resolve();
        return;
      }
      const callbacks = this.#waiting.get(key) ?? new Set();
      this.#waiting.set(key, callbacks);
      const done = () => {
        callbacks.delete(done);
        if (callbacks.size === 0 && this.#waiting.get(key) === callbacks) this.#waiting.delete(key);
        signal.removeEventListener("abort", done);
        resolve();
      };
      callbacks.add(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }
}
