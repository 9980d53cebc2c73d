import type { Readable } from "node:stream";

/** Longest piece of output in one event, in bytes as the program wrote them. */
export const MAX_CHUNK_BYTES = 16 * 1024;

/**
 * Reads a program's output as text, piece by piece. The next piece is read when `take` has
 * resolved: a slow taker stops the program by its full pipe, never fills memory.
 * Characters torn between two reads are put together; what isn't UTF-8 becomes U+FFFD.
 */
export async function pumpText(
  stream: Readable,
  take: (text: string) => Promise<void>,
): Promise<void> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  for await (const bytes of chunks(stream)) {
    for (let at = 0; at < bytes.length; at += MAX_CHUNK_BYTES) {
      const text = decoder.decode(bytes.subarray(at, at + MAX_CHUNK_BYTES), { stream: true });
      if (text !== "") await take(text);
    }
  }
  const rest = decoder.decode();
  if (rest !== "") await take(rest);
}

/** A pipe without an encoding gives bytes. */
function chunks(stream: Readable): AsyncIterable<Uint8Array> {
  return stream;
}

/** The last characters of a text that only grows. */
export class TextTail {
  readonly #limit: number;
  #parts: string[] = [];
  #length = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  push(text: string): void {
    this.#parts.push(text);
    this.#length += text.length;
    while (this.#length - (this.#parts[0]?.length ?? 0) >= this.#limit) {
      this.#length -= this.#parts.shift()?.length ?? 0;
    }
  }

  toString(): string {
    const text = this.#parts.join("");
    if (text.length <= this.#limit) return text;
    // Not between the two halves of one character.
    const cut = text.slice(-this.#limit);
    return /^[\uDC00-\uDFFF]/.test(cut) ? cut.slice(1) : cut;
  }
}

/** Cuts text that comes in pieces into lines; a line over the limit is dropped whole. */
export class LineSplitter {
  readonly #limit: number;
  #parts: string[] = [];
  #length = 0;

  /** @param limit most characters of one line */
  constructor(limit: number = 16 * 1024 * 1024) {
    this.#limit = limit;
  }

  /** The lines that this piece completes. What follows the last newline waits for the next one. */
  push(text: string): string[] {
    const [first = "", ...others] = text.split("\n");
    this.#add(first);
    const lines: string[] = [];
    for (const next of others) {
      if (this.#length <= this.#limit) lines.push(this.#parts.join(""));
      this.#parts = [];
      this.#length = 0;
      this.#add(next);
    }
    return lines.filter((line) => line !== "");
  }

  #add(text: string): void {
    this.#length += text.length;
    if (this.#length <= this.#limit) this.#parts.push(text);
    else this.#parts = [];
  }
}
