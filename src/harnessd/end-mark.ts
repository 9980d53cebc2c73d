import { type Deferred, deferred } from "../protocol/deferred.ts";

/**
 * Finds a mark in text that comes in pieces, and keeps it and what follows it to itself. What comes
 * before goes on at once, but for an end that may yet become the mark.
 */
export class EndMark {
  /** The mark was seen, and all before it has been taken. */
  readonly passed: Deferred<void> = deferred();
  readonly #mark: string;
  #held = "";
  #seen = false;

  constructor(mark: string) {
    this.#mark = mark;
  }

  async push(piece: string, take: (text: string) => Promise<void>): Promise<void> {
    if (this.#seen) return;
    const text = this.#held + piece;
    const at = text.indexOf(this.#mark);
    this.#seen = at >= 0;
    const end = this.#seen ? at : text.length - this.#beginning(text);
    this.#held = this.#seen ? "" : text.slice(end);
    if (end > 0) await take(text.slice(0, end));
    if (this.#seen) this.passed.resolve();
  }

  /** At the stream's end: what was held back was no mark. */
  async close(take: (text: string) => Promise<void>): Promise<void> {
    const rest = this.#held;
    this.#held = "";
    if (rest !== "") await take(rest);
    this.passed.resolve();
  }

  /** Length of the longest end of the text that the mark begins with. */
  #beginning(text: string): number {
    for (let size = Math.min(this.#mark.length - 1, text.length); size > 0; size--) {
      if (this.#mark.startsWith(text.slice(-size))) return size;
    }
    return 0;
  }
}
