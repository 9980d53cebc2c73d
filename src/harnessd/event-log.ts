import { type FileHandle, open } from "node:fs/promises";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import { terminalStatus } from "../protocol/run-events.ts";
import { type LogLine, readLines } from "./log-lines.ts";

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
  readonly path: string;
  readonly runId: string;
  /** Longest file; an append beyond it fails as a full disk does. */
  readonly maxBytes: number;
  readonly now: () => Date;
  /** Called when the disk is full; true when something was freed and the write may be tried again. */
  readonly makeRoom?: () => Promise<boolean>;
  /** Called in order with each event that is on disk, also with those found at opening. */
  readonly onEvent: (event: HarnessEvent) => void;
}

/** Appends wait while more than this is not yet on disk. */
const MAX_PENDING_BYTES = 256 * 1024;
/** One index entry per so many bytes of log: a resume seeks instead of reading from the start. */
const INDEX_EVERY_BYTES = 256 * 1024;

/**
 * A run's events: one file, appended in batches, synced before anyone sees an event. Readers read
 * from disk, so that any number of slow ones costs no memory.
 */
export class EventLog implements AsyncDisposable {
  readonly #options: EventLogOptions;
  readonly #file: FileHandle;
  /** Encoded, numbered, not on disk yet. */
  #pending: { event: HarnessEvent; line: Buffer }[] = [];
  #pendingBytes = 0;
  #nextSeq = 0;
  #size = 0;
  #committedSeq = -1;
  #index: { seq: number; offset: number }[] = [];
  /** Lines that a full disk refused; at most the terminal event. */
  #tail: LogLine[] = [];
  /** The terminal event was appended. */
  #closed = false;
  /** The terminal event can be read. */
  #ended = false;
  #failure: DecoError | undefined;
  #flushing: Promise<void> | undefined;
  #wake = new Set<() => void>();

  private constructor(options: EventLogOptions, file: FileHandle) {
    this.#options = options;
    this.#file = file;
  }

  /** Opens the file, made when it is new. A torn last line (a crash mid-write) is cut off. */
  static async open(options: EventLogOptions): Promise<EventLog> {
    const log = new EventLog(options, await open(options.path, "a+", 0o600));
    const { size } = await log.#file.stat();
    for await (const lines of readLines(options.path, 0, size)) {
      for (const line of lines) log.#committed(line, HarnessEvent.parse(JSON.parse(line.data)));
    }
    if (size > log.#size) await log.#file.truncate(log.#size);
    log.#nextSeq = log.#committedSeq + 1;
    return log;
  }

  /** The number of the last event on disk; -1 when there is none. */
  get lastSeq(): number {
    return this.#committedSeq;
  }

  /** Bytes on disk. */
  get size(): number {
    return this.#size;
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

  /** Waits until the disk has caught up so far that more may come. @throws storage_failed */
  async room(): Promise<void> {
    while (this.#pendingBytes > MAX_PENDING_BYTES && this.#flushing) await this.#flushing;
    if (this.#failure) throw this.#failure;
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
    this.#tail = [{ seq: seqOf(event), type, data: JSON.stringify(event), end: this.#size }];
    this.#committedSeq = seqOf(event);
    this.#options.onEvent(event);
    this.#ended = true;
    this.#notify();
  }

  /** The events behind `after`, then those to come; ends behind the terminal event. */
  async *read(after: number, signal: AbortSignal): AsyncGenerator<readonly LogLine[]> {
    let seen = after;
    let offset = this.#index.findLast((entry) => entry.seq <= after + 1)?.offset ?? 0;
    for (;;) {
      signal.throwIfAborted();
      const end = this.#size;
      const ended = this.#ended;
      for await (const lines of readLines(this.#options.path, offset, end)) {
        const news = lines.filter((line) => line.seq > seen);
        seen = news.at(-1)?.seq ?? seen;
        if (news.length > 0) yield news;
        signal.throwIfAborted();
      }
      offset = end;
      if (ended) {
        const tail = this.#tail.filter((line) => line.seq > seen);
        if (tail.length > 0) yield tail;
        return;
      }
      if (this.#size === end && !this.#ended) await this.#changed(signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.settled().catch(() => undefined);
    await this.#file.close();
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
        await this.#write(Buffer.concat(batch.map((entry) => entry.line)));
      } catch (error) {
        await this.#refuse(error);
        break;
      }
      for (const { event, line } of batch) {
        this.#pendingBytes -= line.length;
        const seq = seqOf(event);
        this.#committed({ seq, type: event.type, data: "", end: this.#size + line.length }, event);
      }
      this.#notify();
    }
    this.#flushing = undefined;
  }

  async #write(bytes: Buffer): Promise<void> {
    if (this.#size + bytes.length > this.#options.maxBytes) {
      throw new Error(`the log is over ${this.#options.maxBytes} bytes`);
    }
    for (;;) {
      try {
        await this.#file.appendFile(bytes);
        await this.#file.datasync();
        return;
      } catch (error) {
        if (!isFull(error) || !(await this.#options.makeRoom?.())) throw error;
        await this.#file.truncate(this.#size);
      }
    }
  }

  async #refuse(cause: unknown): Promise<void> {
    const message = cause instanceof Error ? cause.message : String(cause);
    this.#failure = new DecoError("storage_failed", `the event log: ${message}`, { cause });
    this.#pending = [];
    this.#pendingBytes = 0;
    // What was half written must not be read: the numbers go on behind the last whole batch.
    await this.#file.truncate(this.#size).catch(() => undefined);
    this.#notify();
  }

  #committed(line: LogLine, event: HarnessEvent): void {
    const last = this.#index.at(-1);
    if (!last || this.#size - last.offset >= INDEX_EVERY_BYTES) {
      this.#index.push({ seq: line.seq, offset: this.#size });
    }
    this.#size = line.end;
    this.#committedSeq = line.seq;
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

function isFull(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOSPC";
}

function seqOf(event: HarnessEvent): number {
  return Number(event.id.slice(event.id.lastIndexOf(":") + 1));
}
