import { type FileHandle, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { DecoError } from "../protocol/errors.ts";
import { type LogLine, readLines } from "./log-lines.ts";

/** One file of a log. The newest is written to; older ones are dropped as a whole. */
interface Segment {
  readonly path: string;
  readonly firstSeq: number;
  /** One less than `firstSeq` while it is empty. */
  lastSeq: number;
  size: number;
  /** Sparse: a resume seeks instead of reading from the start. */
  readonly index: { readonly seq: number; readonly offset: number }[];
}

/** Where a reader stands; made by {@link LogSegments.cursor}, moved by {@link LogSegments.advance}. */
export interface LogCursor {
  segment: Segment | undefined;
  offset: number;
  /** The last number that the reader has. */
  seen: number;
}

const INDEX_EVERY_BYTES = 256 * 1024;
const NAME = /^events-(\d{12})\.log$/;

/**
 * A log's lines on disk, in files of limited size, so that its beginning can be dropped while its
 * end is written.
 */
export class LogSegments implements AsyncDisposable {
  readonly #folder: string;
  readonly #segmentBytes: number;
  #list: Segment[] = [];
  /** Of the newest segment. */
  #file: FileHandle | undefined;

  private constructor(folder: string, segmentBytes: number) {
    this.#folder = folder;
    this.#segmentBytes = segmentBytes;
  }

  /** Opens what is in the folder. A torn last line (a crash mid-write) is cut off. */
  static async open(o: {
    readonly folder: string;
    readonly segmentBytes: number;
    readonly onLine: (line: LogLine) => void;
  }): Promise<LogSegments> {
    const segments = new LogSegments(o.folder, o.segmentBytes);
    const names = (await readdir(o.folder)).filter((name) => NAME.test(name)).toSorted();
    for (const name of names) await segments.#reopen(name, o.onLine);
    return segments;
  }

  /** The number of the first line that is still there. */
  get firstSeq(): number {
    return this.#list[0]?.firstSeq ?? 0;
  }

  /** Bytes on disk. */
  get size(): number {
    return this.#list.reduce((sum, { size }) => sum + size, 0);
  }

  /** Bytes of the files that hold a line behind `seq`. */
  bytesBehind(seq: number): number {
    return this.#list.reduce((sum, { size, lastSeq }) => sum + (lastSeq > seq ? size : 0), 0);
  }

  /** Appends whole lines in one synced write; a write that fails leaves nothing behind. */
  async append(lines: readonly { readonly seq: number; readonly bytes: Buffer }[]): Promise<void> {
    const first = lines[0];
    if (!first) return;
    const { segment, file } = await this.#current(first.seq);
    try {
      await file.appendFile(Buffer.concat(lines.map(({ bytes }) => bytes)));
      await file.datasync();
    } catch (error) {
      // What was half written must not be read: the numbers go on behind the last whole batch.
      await file.truncate(segment.size).catch(() => undefined);
      throw error;
    }
    for (const { seq, bytes } of lines) extend(segment, seq, segment.size + bytes.length);
  }

  /** Drops the files that hold nothing from `seq` on; the newest stays. */
  async dropBelow(seq: number): Promise<void> {
    const newest = this.#list.at(-1);
    const old = this.#list.filter((one) => one !== newest && one.lastSeq < seq);
    this.#list = this.#list.filter((one) => !old.includes(one));
    for (const { path } of old) await rm(path, { force: true });
  }

  cursor(after: number): LogCursor {
    return { segment: undefined, offset: 0, seen: after };
  }

  /**
   * The lines behind the cursor that are on disk by now.
   *
   * @throws events_truncated
   */
  async *advance(cursor: LogCursor): AsyncGenerator<readonly LogLine[]> {
    for (;;) {
      const segment = this.#segmentOf(cursor);
      if (!segment || cursor.offset >= segment.size) return;
      const end = segment.size;
      for await (const lines of readLines(segment.path, cursor.offset, end)) {
        const news = lines.filter((line) => line.seq > cursor.seen);
        cursor.seen = news.at(-1)?.seq ?? cursor.seen;
        if (news.length > 0) yield news;
      }
      cursor.offset = end;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  #segmentOf(cursor: LogCursor): Segment | undefined {
    const { segment } = cursor;
    const newest = this.#list.at(-1);
    if (segment && (cursor.offset < segment.size || segment === newest)) return segment;
    const next = cursor.seen + 1;
    const found = this.#list.findLast((one) => one.firstSeq <= next);
    if (!found && newest) {
      throw new DecoError("events_truncated", `the log begins at ${this.firstSeq}, not ${next}`, {
        extensions: { firstSeq: this.firstSeq },
      });
    }
    cursor.segment = found;
    cursor.offset = found?.index.findLast((entry) => entry.seq <= next)?.offset ?? 0;
    return found;
  }

  async #current(seq: number): Promise<{ segment: Segment; file: FileHandle }> {
    const newest = this.#list.at(-1);
    if (newest && this.#file && newest.size < this.#segmentBytes) {
      return { segment: newest, file: this.#file };
    }
    const path = join(this.#folder, `events-${String(seq).padStart(12, "0")}.log`);
    const file = await open(path, "a", 0o600);
    await this.#file?.close();
    this.#file = file;
    const segment = { path, firstSeq: seq, lastSeq: seq - 1, size: 0, index: [] };
    this.#list.push(segment);
    return { segment, file };
  }

  async #reopen(name: string, onLine: (line: LogLine) => void): Promise<void> {
    const path = join(this.#folder, name);
    const firstSeq = Number(NAME.exec(name)?.[1]);
    const segment: Segment = { path, firstSeq, lastSeq: firstSeq - 1, size: 0, index: [] };
    const file = await open(path, "a+", 0o600);
    await this.#file?.close();
    this.#file = file;
    const { size } = await file.stat();
    for await (const lines of readLines(path, 0, size)) {
      for (const line of lines) {
        onLine(line);
        extend(segment, line.seq, line.end);
      }
    }
    if (size > segment.size) await file.truncate(segment.size);
    this.#list.push(segment);
  }
}

function extend(segment: Segment, seq: number, end: number): void {
  const last = segment.index.at(-1);
  if (!last || segment.size - last.offset >= INDEX_EVERY_BYTES) {
    segment.index.push({ seq, offset: segment.size });
  }
  segment.size = end;
  segment.lastSeq = seq;
}
