import { DecoError } from "./errors.ts";

/** One server-sent event. `id`, `event` and `retry` (ms) only when this very event named them. */
export interface SseFrame {
  readonly id?: string;
  readonly event?: string;
  readonly data: string;
  readonly retry?: number;
}

/** Above this an event is refused: 16 Mi characters. */
const MAX_EVENT_CHARS = 16 * 1024 * 1024;

/**
 * Streaming decoder of `text/event-stream`. One instance per stream: characters, lines and CRLF
 * pairs may be split anywhere between chunks (LESSONS 20).
 *
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html, section "Parsing"
 */
export class SseDecoder {
  readonly #text = new TextDecoder();
  readonly #maxEventChars: number;
  #partialLine: string[] = [];
  #heldChars = 0;
  #skipLineFeed = false;
  #fields: { id?: string; event?: string; retry?: number } = {};
  #data: string[] = [];

  constructor(options: { maxEventChars?: number } = {}) {
    this.#maxEventChars = options.maxEventChars ?? MAX_EVENT_CHARS;
  }

  /**
   * Takes the next bytes and gives the events that they complete.
   *
   * @throws {@link DecoError} `body_too_large` when one event is over the limit.
   */
  push(chunk: Uint8Array): SseFrame[] {
    let text = this.#text.decode(chunk, { stream: true });
    if (text === "") return [];
    if (this.#skipLineFeed && text.startsWith("\n")) text = text.slice(1);
    this.#skipLineFeed = text.endsWith("\r");
    const lines = text.split(/\r\n|\r|\n/);
    const rest = lines.pop() ?? "";
    const frames: SseFrame[] = [];
    for (const line of lines) {
      const whole = this.#partialLine.join("") + line;
      this.#partialLine = [];
      this.#takeLine(whole, frames);
    }
    if (rest !== "") this.#partialLine.push(rest);
    this.#hold(rest.length);
    return frames;
  }

  #takeLine(line: string, frames: SseFrame[]): void {
    if (line === "") {
      if (this.#data.length > 0) frames.push({ ...this.#fields, data: this.#data.join("\n") });
      this.#fields = {};
      this.#data = [];
      this.#heldChars = 0;
      return;
    }
    if (line.startsWith(":")) return;
    const colon = line.indexOf(":");
    const name = colon === -1 ? line : line.slice(0, colon);
    const start = line.startsWith(" ", colon + 1) ? colon + 2 : colon + 1;
    this.#takeField(name, colon === -1 ? "" : line.slice(start));
  }

  #takeField(name: string, value: string): void {
    switch (name) {
      case "data":
        this.#data.push(value);
        this.#hold(value.length + 1);
        break;
      case "event":
        this.#fields.event = value;
        break;
      case "id":
        if (!value.includes("\0")) this.#fields.id = value;
        break;
      case "retry":
        if (/^\d{1,9}$/.test(value)) this.#fields.retry = Number(value);
        break;
      default:
        break;
    }
  }

  #hold(chars: number): void {
    this.#heldChars += chars;
    if (this.#heldChars > this.#maxEventChars)
      throw new DecoError("body_too_large", `one event is over ${this.#maxEventChars} characters`);
  }
}

/** The wire form of one event; line breaks in `data` become several `data:` lines. */
export function encodeSse(frame: SseFrame): string {
  let text = "";
  if (frame.id !== undefined) text += `id: ${oneLine(frame.id)}\n`;
  if (frame.event !== undefined) text += `event: ${oneLine(frame.event)}\n`;
  if (frame.retry !== undefined) text += `retry: ${frame.retry}\n`;
  for (const line of frame.data.split(/\r\n|\r|\n/)) text += `data: ${line}\n`;
  return `${text}\n`;
}

function oneLine(value: string): string {
  return value.replace(/[\r\n\0]/g, "");
}
