import { setImmediate } from "node:timers/promises";
import type { JournalDraft } from "../journal.ts";
import { mergeDeltas } from "./merge-deltas.ts";

/** As much as may wait in memory while a commit is under way. */
const MAX_PENDING = 512;
const MAX_PENDING_CHARACTERS = 2 * 1024 * 1024;
/** With so many waiting the disk lags: neighbouring deltas become one. */
const MERGE_FROM = 64;

/** Collects what arrives while the disk is busy, so that it shares one commit. */
export class BatchWriter {
  readonly #write: (drafts: readonly JournalDraft[]) => Promise<unknown>;
  readonly #onError: (error: unknown) => void;
  #pending: JournalDraft[] = [];
  #pendingCharacters = 0;
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
    this.#add(draft);
    this.#working ??= this.#work();
    const full =
      this.#pending.length >= MAX_PENDING || this.#pendingCharacters >= MAX_PENDING_CHARACTERS;
    if (full) await this.flush();
  }

  /** Everything pushed so far is on disk. */
  async flush(): Promise<void> {
    while (this.#working) await this.#working;
    this.#throwFailure();
  }

  #add(draft: JournalDraft): void {
    const { content } = draft.payload;
    this.#pendingCharacters += typeof content === "string" ? content.length : 1024;
    const last = this.#pending.length >= MERGE_FROM ? this.#pending.at(-1) : undefined;
    const merged = last && mergeDeltas(last, draft);
    if (merged) this.#pending[this.#pending.length - 1] = merged;
    else this.#pending.push(draft);
  }

  async #work(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        // Whatever the same chunk of the stream holds comes first.
        await setImmediate();
        const batch = this.#pending;
        this.#pending = [];
        this.#pendingCharacters = 0;
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
