import { type Frame, frameBytes } from "./frames.ts";
import { batches } from "./mux-frames.ts";
import type { MuxOptions } from "./mux-options.ts";

/** Data waits while so much is in the socket's queue: what is small never waits long. */
const SOCKET_QUEUE_BYTES = 64 * 1024;
/** Data in one message, so that a slow line shows signs of life often. */
const MESSAGE_DATA_BYTES = 32 * 1024;
/** Control frames have no credit; a peer that makes us queue so much is broken. */
const SOCKET_LIMIT_BYTES = 8 * 1024 * 1024;

interface OutboxOptions extends Pick<MuxOptions, "send" | "buffered" | "schedule"> {
  /** Asked for more data right before each flush at the end of a tick. */
  readonly fill: () => void;
  /** So much is queued that the peer can't be reading. */
  readonly onOverflow: () => void;
}

/** Frames on their way into the socket's queue: control first, data in order among itself. */
export class MuxOutbox {
  readonly #options: OutboxOptions;
  #control: Frame[] = [];
  #data: Frame[] = [];
  #dataBytes = 0;
  #scheduled = false;
  #closed = false;

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /** Whether the socket's queue is short enough for another piece of data. */
  get hasRoom(): boolean {
    return this.#options.buffered() + this.#dataBytes < SOCKET_QUEUE_BYTES;
  }

  control(frame: Frame): void {
    if (this.#closed) return;
    this.#control.push(frame);
    this.schedule();
  }

  data(frame: Frame): void {
    this.#data.push(frame);
    this.#dataBytes += frameBytes(frame);
    if (this.#dataBytes >= MESSAGE_DATA_BYTES) this.#flush();
    else this.schedule();
  }

  /** Flushes at the end of the tick. */
  schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    (this.#options.schedule ?? queueMicrotask)(() => {
      this.#scheduled = false;
      this.#options.fill();
      this.#flush();
    });
  }

  close(): void {
    this.#closed = true;
    this.#control = [];
    this.#data = [];
  }

  #flush(): void {
    if (this.#closed) return;
    const frames = [...this.#control, ...this.#data];
    this.#control = [];
    this.#data = [];
    this.#dataBytes = 0;
    for (const message of batches(frames)) this.#options.send(message);
    if (frames.length > 0 && this.#options.buffered() > SOCKET_LIMIT_BYTES)
      this.#options.onOverflow();
  }
}
