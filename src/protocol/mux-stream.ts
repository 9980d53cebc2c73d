import type { ResponseHead } from "./frames.ts";

/** Unconsumed bytes that a sender may have under way on one stream. */
export const STREAM_WINDOW_BYTES = 256 * 1024;
/** A writer waits when so much is queued behind the credit. */
const SEND_QUEUE_BYTES = 64 * 1024;
/** Credit goes back in pieces of at least this, so that windows cost little. */
const WINDOW_STEP_BYTES = STREAM_WINDOW_BYTES / 4;

/** What the mux does for its streams. */
export interface StreamHost {
  /** Puts a stream that has something to send into the round. */
  arm(stream: MuxStream): void;
  sendWindow(stream: MuxStream, bytes: number): void;
  sendReset(stream: MuxStream, code: string): void;
  sendHead(stream: MuxStream, head: ResponseHead, end: boolean): void;
  drop(stream: MuxStream): void;
}

/** What the owner of a stream hears. Callbacks never throw and never wait. */
export interface StreamEvents {
  onHead?(head: ResponseHead): void;
  /** The owner answers with {@link MuxStream.consumed} when the bytes were really taken. */
  onData(bytes: Uint8Array): void;
  onEnd(): void;
  /** The last event: the peer, or this mux, gave the stream up. */
  onReset(failure: StreamFailure): void;
  /** There is room again after `write` said false. */
  onDrain?(): void;
  /** Our end went out, behind all that was written. */
  onEndSent?(): void;
}

/** Why a stream ended early: `code` is an error code, or empty for a plain cancel. */
export interface StreamFailure {
  readonly code: string;
  /** Whether the connection broke, rather than the stream alone. */
  readonly lost: boolean;
  /** False only when the peer surely never saw, or never took, the request. */
  readonly mayHaveExecuted: boolean;
}

/** One exchange inside the tunnel: a head each way, then bytes under credit each way. */
export class MuxStream {
  readonly id: number;
  /** Opened here, so a response head is awaited. */
  readonly opened: boolean;
  readonly #host: StreamHost;
  #events: StreamEvents | undefined;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #sendCredit = STREAM_WINDOW_BYTES;
  #receiveCredit = STREAM_WINDOW_BYTES;
  #owedBytes = 0;
  #blocked = false;
  #sending: "open" | "ending" | "ended" = "open";
  #receiving: "open" | "ended" = "open";
  #closed = false;
  #discarding = false;
  /** Set by the mux while the stream waits for its turn. */
  armed = false;
  headSeen = false;

  constructor(id: number, host: StreamHost, opened: boolean) {
    this.id = id;
    this.#host = host;
    this.opened = opened;
  }

  /** Everything was said, or the stream was given up. */
  get closed(): boolean {
    return this.#closed;
  }

  listen(events: StreamEvents): void {
    this.#events = events;
  }

  /** The head of the answer (once, by the end that was asked). */
  respond(head: ResponseHead, end: boolean): void {
    if (this.#closed) return;
    this.#host.sendHead(this, head, end);
    if (end) this.markEndSent();
  }

  /** Takes the bytes; false asks the writer to wait for `onDrain`. They must not change afterwards. */
  write(bytes: Uint8Array): boolean {
    if (this.#closed || this.#sending !== "open") return true;
    if (bytes.byteLength > 0) {
      this.#queue.push(bytes);
      this.#queuedBytes += bytes.byteLength;
      this.#host.arm(this);
    }
    this.#blocked = this.#queuedBytes >= SEND_QUEUE_BYTES;
    return !this.#blocked;
  }

  /** No more bytes from here. */
  end(): void {
    if (this.#closed || this.#sending !== "open") return;
    this.#sending = "ending";
    this.#host.arm(this);
  }

  /** Gives the stream up at once, both ways. */
  reset(code = ""): void {
    if (this.#closed) return;
    this.#host.sendReset(this, code);
    this.#close();
  }

  /** What the peer still sends has no reader: it is told to stop, once our own end went out. */
  discard(): void {
    this.#discarding = true;
    if (this.#closed || this.#receiving === "ended" || this.#sending !== "ended") return;
    this.#host.sendReset(this, "");
    this.#close();
  }

  /** The owner took so many bytes: the peer may send as many again. */
  consumed(bytes: number): void {
    this.#owedBytes += bytes;
    if (this.#closed || this.#receiving === "ended" || this.#owedBytes < WINDOW_STEP_BYTES) return;
    const owed = this.#owedBytes;
    this.#owedBytes = 0;
    this.#receiveCredit += owed;
    this.#host.sendWindow(this, owed);
  }

  // From here on: called by the mux alone.

  /** Whether the stream can send now; an end needs no credit. */
  get sendable(): boolean {
    if (this.#closed) return false;
    return this.#queuedBytes > 0 ? this.#sendCredit > 0 : this.#sending === "ending";
  }

  /** The next piece to send, within credit and `limit`, and whether it is the last. */
  take(limit: number): { bytes: Uint8Array; end: boolean } {
    const head = this.#queue[0];
    let bytes = head ?? EMPTY;
    const most = Math.min(limit, this.#sendCredit);
    if (head && head.byteLength > most) {
      bytes = head.subarray(0, most);
      this.#queue[0] = head.subarray(most);
    } else this.#queue.shift();
    this.#queuedBytes -= bytes.byteLength;
    this.#sendCredit -= bytes.byteLength;
    const end = this.#sending === "ending" && this.#queuedBytes === 0;
    return { bytes, end };
  }

  /** After `take`: wakes the writer. Apart from it, since a writer may write again at once. */
  taken(end: boolean): void {
    if (end) this.markEndSent();
    else if (this.#blocked && this.#queuedBytes < SEND_QUEUE_BYTES / 2) {
      this.#blocked = false;
      this.#events?.onDrain?.();
    }
  }

  markEndSent(): void {
    this.#sending = "ended";
    this.#events?.onEndSent?.();
    if (this.#receiving === "ended") this.#close();
    else if (this.#discarding) this.discard();
  }

  takeHead(head: ResponseHead): void {
    this.headSeen = true;
    this.#events?.onHead?.(head);
  }

  /** False when the peer sent more than its credit. */
  takeData(bytes: Uint8Array): boolean {
    if (this.#receiving === "ended") return false;
    this.#receiveCredit -= bytes.byteLength;
    if (this.#receiveCredit < 0) return false;
    if (bytes.byteLength > 0) this.#events?.onData(bytes);
    return true;
  }

  takeEnd(): void {
    if (this.#receiving === "ended") return;
    this.#receiving = "ended";
    this.#events?.onEnd();
    if (this.#sending === "ended") this.#close();
  }

  /** False when the credit is beyond what was ever given. */
  takeWindow(bytes: number): boolean {
    this.#sendCredit += bytes;
    if (this.#sendCredit > STREAM_WINDOW_BYTES) return false;
    if (this.sendable) this.#host.arm(this);
    return true;
  }

  /** The peer reset the stream, or the connection is gone. */
  fail(failure: StreamFailure): void {
    if (this.#closed) return;
    this.#close();
    this.#events?.onReset(failure);
  }

  /** Our end went out, the peer's has not come. */
  get halfClosed(): boolean {
    return !this.#closed && this.#sending === "ended";
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#host.drop(this);
  }
}

const EMPTY = new Uint8Array(0);
