import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import { terminalStatus } from "../protocol/run-events.ts";
import type { LogLine } from "./log-lines.ts";
import { LogSegments } from "./log-segments.ts";

/** One event as it stands on disk and on the wire (`data:`). */
const HarnessEvent = z.object({
  /** `<run_id>:<seq>`, seq from 0 and contiguous. */
  id: z.string(),
  run_id: z.string(),
  type: z.string(),
  /** RFC 3339, UTC. */
  timestamp: z.string(),
  payload: z.record(z.string(), z.unknown()),
});
export type HarnessEvent = Readonly<z.infer<typeof HarnessEvent>>;

export interface EventLogOptions {
  /** Holds the log's files and perhaps others; it exists. */
  readonly folder: string;
  readonly runId: string;
  /** {@link EventLog.room} waits while more than this was not acknowledged. */
  readonly maxBytes: number;
  readonly now: () => Date;
  /** Called when the disk is full; true when something was freed and the write may be tried again. */
  readonly makeRoom?: () => Promise<boolean>;
  /** Called in order with each event that is on disk, also with those found at opening. */
  readonly onEvent: (event: HarnessEvent) => void;
}

/** Appends wait while more than this is not yet on disk. */
const MAX_PENDING_BYTES = 256 * 1024;
/** Acknowledged events are dropped in pieces of this size; an eighth of a smaller log. */
const SEGMENT_BYTES = 4 * 1024 * 1024;

/**
 * A run's events on disk, appended in batches, synced before anyone sees an event. Readers read
 * from disk, so that any number of slow ones costs no memory. What a reader acknowledged is dropped;
 * when too much was not, whoever writes waits.
 */
export class EventLog implements AsyncDisposable {
  readonly #options: EventLogOptions;
  readonly #segments: LogSegments;
  /** Encoded, numbered, not on disk yet. */
  #pending: { event: HarnessEvent; line: Buffer }[] = [];
  #pendingBytes = 0;
  #nextSeq: number;
  #committedSeq: number;
  #ackedSeq: number;
  /** Lines that a full disk refused; at most the terminal event. */
  #tail: LogLine[] = [];
  /** The terminal event was appended. */
  #closed: boolean;
  /** The terminal event can be read. */
  #ended: boolean;
  #failure: DecoError | undefined;
  #flushing: Promise<void> | undefined;
  #wake = new Set<() => void>();

  private constructor(options: EventLogOptions, segments: LogSegments, last: Last) {
    this.#options = options;
    this.#segments = segments;
    this.#committedSeq = last.seq;
    this.#nextSeq = last.seq + 1;
    this.#ackedSeq = segments.firstSeq - 1;
    this.#closed = last.ended;
    this.#ended = last.ended;
  }

  /** Opens the log, made when it is new. */
  static async open(options: EventLogOptions): Promise<EventLog> {
    let last: Last = { seq: -1, ended: false };
    const segments = await LogSegments.open({
      folder: options.folder,
      segmentBytes: Math.min(SEGMENT_BYTES, options.maxBytes / 8),
      onLine: ({ seq, type, data }) => {
        options.onEvent(HarnessEvent.parse(JSON.parse(data)));
        last = { seq, ended: terminalStatus(type) !== undefined };
      },
    });
    return new EventLog(options, segments, last);
  }

  /** The number of the last event on disk; -1 when there is none. */
  get lastSeq(): number {
    return this.#committedSeq;
  }

  /** The number of the first event that was not dropped. */
  get firstSeq(): number {
    return this.#segments.firstSeq;
  }

  /** Bytes on disk. */
  get size(): number {
    return this.#segments.size;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Numbers an event and queues it for the disk. Await {@link room} between bursts. What comes
   * behind the terminal event, or when the disk has refused, is dropped.
   */
  append(type: string, payload: Readonly<Record<string, unknown>>): void {
    if (this.#failure || this.#closed) return;
    if (terminalStatus(type)) this.#closed = true;
    const event = this.#number(type, payload);
    const line = Buffer.from(`${JSON.stringify(event)}\n`);
    this.#pending.push({ event, line });
    this.#pendingBytes += line.length;
    this.#flushing ??= this.#flush();
  }

  /**
   * Waits until more may come: the disk has caught up, and not too much is unacknowledged.
   *
   * @throws storage_failed, and the signal's reason
   */
  async room(signal: AbortSignal): Promise<void> {
    while (this.#pendingBytes > MAX_PENDING_BYTES && this.#flushing) await this.#flushing;
    while (!this.#failure && this.#isFull()) {
      signal.throwIfAborted();
      await this.#changed(signal);
    }
    if (this.#failure) throw this.#failure;
  }

  /**
   * A reader holds everything up to `seq` on its own disk: it may be dropped here. The event itself
   * stays, for a reader that resumes one event earlier than it must.
   *
   * @throws seq_ahead
   */
  async ack(seq: number): Promise<void> {
    if (seq > this.#committedSeq) {
      throw new DecoError("seq_ahead", `the last event is ${this.#committedSeq}, not ${seq}`);
    }
    this.#ackedSeq = Math.max(this.#ackedSeq, seq);
    await this.#segments.dropBelow(this.#ackedSeq);
    this.#notify();
  }

  /** Waits until everything appended is on disk. @throws storage_failed */
  async settled(): Promise<void> {
    if (!(await this.#written()) && this.#failure) throw this.#failure;
  }

  /** Appends the terminal event; when the disk refuses it, it is kept in memory for the readers. */
  async end(type: string, payload: Readonly<Record<string, unknown>>): Promise<void> {
    if (await this.#written()) {
      this.append(type, payload);
      if (await this.#written()) return;
    }
    this.#nextSeq = this.#committedSeq + 1;
    const event = this.#number(type, payload);
    this.#tail = [{ seq: seqOf(event), type, data: JSON.stringify(event), end: 0 }];
    this.#committedSeq = seqOf(event);
    this.#options.onEvent(event);
    this.#ended = true;
    this.#notify();
  }

  /**
   * The events behind `after`, then those to come; ends behind the terminal event.
   *
   * @throws events_truncated
   */
  async *read(after: number, signal: AbortSignal): AsyncGenerator<readonly LogLine[]> {
    const cursor = this.#segments.cursor(after);
    for (;;) {
      signal.throwIfAborted();
      const last = this.#committedSeq;
      const ended = this.#ended;
      for await (const lines of this.#segments.advance(cursor)) {
        yield lines;
        signal.throwIfAborted();
      }
      if (ended) {
        const tail = this.#tail.filter((line) => line.seq > cursor.seen);
        if (tail.length > 0) yield tail;
        return;
      }
      if (this.#committedSeq === last && !this.#ended) await this.#changed(signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.settled().catch(() => undefined);
    await this.#segments[Symbol.asyncDispose]();
  }

  #isFull(): boolean {
    return this.#segments.bytesBehind(this.#ackedSeq) >= this.#options.maxBytes;
  }

  async #written(): Promise<boolean> {
    while (this.#flushing) await this.#flushing;
    return this.#failure === undefined;
  }

  #number(type: string, payload: Readonly<Record<string, unknown>>): HarnessEvent {
    const { runId, now } = this.#options;
    const id = `${runId}:${this.#nextSeq++}`;
    return { id, run_id: runId, type, timestamp: now().toISOString(), payload };
  }

  async #flush(): Promise<void> {
    // One turn later, so that what one chunk of output gives goes to the disk together.
    await Promise.resolve();
    while (this.#pending.length > 0) {
      const batch = this.#pending;
      this.#pending = [];
      try {
        await this.#write(batch.map(({ event, line }) => ({ seq: seqOf(event), bytes: line })));
      } catch (error) {
        this.#refuse(error);
        break;
      }
      for (const { event, line } of batch) {
        this.#pendingBytes -= line.length;
        this.#committed(event);
      }
      this.#notify();
    }
    this.#flushing = undefined;
  }

  async #write(lines: Parameters<LogSegments["append"]>[0]): Promise<void> {
    for (;;) {
      try {
        await this.#segments.append(lines);
        return;
      } catch (error) {
        if (!isFull(error) || !(await this.#options.makeRoom?.())) throw error;
      }
    }
  }

  #refuse(cause: unknown): void {
    const message = cause instanceof Error ? cause.message : String(cause);
    this.#failure = new DecoError("storage_failed", `the event log: ${message}`, { cause });
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#notify();
  }

  #committed(event: HarnessEvent): void {
    this.#committedSeq = seqOf(event);
    if (terminalStatus(event.type)) {
      this.#closed = true;
      this.#ended = true;
    }
    this.#options.onEvent(event);
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = new Set();
    for (const go of wake) go();
  }

  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const go = () => {
        signal.removeEventListener("abort", go);
        this.#wake.delete(go);
        resolve();
      };
      signal.addEventListener("abort", go, { once: true });
      this.#wake.add(go);
    });
  }
}

interface Last {
  readonly seq: number;
  readonly ended: boolean;
}

function isFull(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOSPC";
}

function seqOf(event: HarnessEvent): number {
  return Number(event.id.slice(event.id.lastIndexOf(":") + 1));
}
