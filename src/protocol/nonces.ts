/** Kept this long after its expiry, because the hub's clock may step back by 5 s a heartbeat. */
const MARGIN_MS = 30_000;

/** Remembers each nonce until its signature can't be valid any more. */
export class NonceCache {
  readonly #now: () => number;
  readonly #expiry = new Map<string, number>();

  /** @param options.now - The hub's time in ms, the same that signatures are checked by. */
  constructor(options: { readonly now: () => number }) {
    this.#now = options.now;
  }

  /** @returns False when it was recorded before. */
  record(nonce: string, expiresAtMs: number): boolean {
    this.#prune();
    if (this.#expiry.has(nonce)) return false;
    this.#expiry.set(nonce, expiresAtMs);
    return true;
  }

  get size(): number {
    return this.#expiry.size;
  }

  /** Lifetimes differ by 90 s at most, so the oldest entries stand in front: O(1) per request. */
  #prune(): void {
    const horizon = this.#now() - MARGIN_MS;
    for (const [nonce, expiresAt] of this.#expiry) {
      if (expiresAt >= horizon) return;
      this.#expiry.delete(nonce);
    }
  }
}
