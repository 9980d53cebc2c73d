import { setImmediate } from "node:timers/promises";
import type { JournalDraft } from "../journal.ts";

/** As much as may wait in memory while a commit is under way. */
const MAX_PENDING = 512;

/** Collects what arrives while the disk is busy, so that it shares one commit. */
export class BatchWriter {
  readonly #write: (drafts: readonly JournalDraft[]) => Promise<unknown>;
  readonly #onError: (error: unknown) => void;
  #pending: JournalDraft[] = [];
  #working: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(
    write: (drafts: readonly JournalDraft[]) => Promise<unknown>,
    onError: (error: unknown) => void,
  ) {
    this.#write = write;
    this.#onError = onError;
  }

  /** Resolves at once, or, when much is pending, after a commit: back-pressure on the reader. */
  async push(draft: JournalDraft): Promise<void> {
    this.#throwFailure();
    this.#pending.push(draft);
    this.#working ??= this.#work();
    if (this.#pending.length >= MAX_PENDING) await this.flush();
  }

  /** Everything pushed so far is on disk. */
  async flush(): Promise<void> {
    while (this.#working) await this.#working;
    this.#throwFailure();
  }

  async #work(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        // Whatever the same chunk of the stream holds comes first.
        await setImmediate();
        const batch = this.#pending;
        this.#pending = [];
        await this.#write(batch);
      }
    } catch (error) {
      this.#failure = { error };
      this.#onError(error);
    } finally {
      this.#working = undefined;
    }
  }

  #throwFailure(): void {
    if (this.#failure) throw this.#failure.error;
  }
}
