import { DecoError } from "./errors.ts";

export type TarKind = "file" | "directory" | "symlink" | "hardlink" | "other";

/** One member of a tar, as its header says; nothing of it is checked but the header's checksum. */
export interface TarEntry {
  readonly path: string;
  readonly kind: TarKind;
  /** Bytes of content; 0 for what has none. */
  readonly size: number;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  /** Unix seconds. */
  readonly mtime: number;
  /** Of a link. */
  readonly target: string;
}

/** Takes what a {@link TarReader} finds, in order; what it throws ends the reading. */
export interface TarSink {
  entry(entry: TarEntry): void;
  /** A piece of the last file; only good until the call returns. */
  data?(bytes: Uint8Array): void;
  /** After each file's last byte. */
  fileEnd?(): void;
}

const BLOCK = 512;
/** Of a long name or a pax header: far more than any path has. */
const META_BYTES = 64 * 1024;
const KINDS: Readonly<Record<string, TarKind>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "1": "hardlink",
  "2": "symlink",
  "5": "directory",
};
const decoder = new TextDecoder();

interface Meta {
  path?: string;
  target?: string;
  size?: number;
  mtime?: number;
}

/**
 * Reads a tar (ustar, GNU long names, pax) pushed to it piece by piece; keeps at most one header.
 *
 * @see POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"
 */
export class TarReader {
  readonly #sink: TarSink;
  readonly #header = new Uint8Array(BLOCK);
  #filled = 0;
  /** Content bytes of the entry under way that are still to come, and its padding. */
  #left = 0;
  #padding = 0;
  #meta: { readonly type: string; readonly bytes: Uint8Array; at: number } | undefined;
  #next: Meta = {};
  #inFile = false;
  #ended = false;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /** @throws archive_invalid, and what the sink throws */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length && !this.#ended) {
      if (this.#left > 0) at += this.#content(chunk, at);
      else if (this.#padding > 0) {
        const taken = Math.min(this.#padding, chunk.length - at);
        this.#padding -= taken;
        at += taken;
      } else {
        const taken = Math.min(BLOCK - this.#filled, chunk.length - at);
        this.#header.set(chunk.subarray(at, at + taken), this.#filled);
        this.#filled += taken;
        at += taken;
        if (this.#filled === BLOCK) this.#block();
      }
    }
  }

  /** @throws archive_invalid for a tar without its end: it may have been cut off */
  end(): void {
    if (!this.#ended) throw invalid("it ends in the middle");
  }

  #content(chunk: Uint8Array, at: number): number {
    const taken = Math.min(this.#left, chunk.length - at);
    const bytes = chunk.subarray(at, at + taken);
    this.#left -= taken;
    if (this.#meta !== undefined) {
      this.#meta.bytes.set(bytes, this.#meta.at);
      this.#meta.at += taken;
      if (this.#left === 0) this.#readMeta(this.#meta.type, this.#meta.bytes);
    } else if (this.#inFile) {
      this.#sink.data?.(bytes);
      if (this.#left === 0) this.#endFile();
    }
    return taken;
  }

  #endFile(): void {
    this.#inFile = false;
    this.#sink.fileEnd?.();
  }

  #block(): void {
    this.#filled = 0;
    const header = this.#header;
    if (header.every((byte) => byte === 0)) {
      this.#ended = true;
      return;
    }
    checkSum(header);
    const type = String.fromCharCode(header[156] ?? 0);
    const size = this.#next.size ?? number(header, 124, 12);
    this.#left = type === "1" || type === "2" || type === "5" ? 0 : size;
    this.#padding = (BLOCK - (this.#left % BLOCK)) % BLOCK;
    if ("LKxg".includes(type)) this.#beginMeta(type, number(header, 124, 12));
    else this.#begin(type, size);
  }

  #beginMeta(type: string, size: number): void {
    if (size > META_BYTES) throw invalid(`a header of ${size} bytes`);
    this.#left = size;
    this.#padding = (BLOCK - (size % BLOCK)) % BLOCK;
    this.#meta = { type, bytes: new Uint8Array(size), at: 0 };
    if (size === 0) this.#meta = undefined;
  }

  #readMeta(type: string, bytes: Uint8Array): void {
    this.#meta = undefined;
    if (type === "L") this.#next.path = text(bytes, 0, bytes.length);
    if (type === "K") this.#next.target = text(bytes, 0, bytes.length);
    // "g" is for all entries: what `git archive` writes there, its commit, nobody needs.
    if (type === "x") Object.assign(this.#next, paxMeta(bytes));
  }

  #begin(type: string, size: number): void {
    const header = this.#header;
    const kind = KINDS[type] ?? "other";
    const ustar = text(header, 257, 5) === "ustar";
    // GNU's own format keeps times where ustar has a prefix.
    const prefix = ustar && header[263] === 0x30 ? text(header, 345, 155) : "";
    const name = text(header, 0, 100);
    const entry: TarEntry = {
      path: this.#next.path ?? (prefix === "" ? name : `${prefix}/${name}`),
      kind: kind === "file" && name.endsWith("/") && !ustar ? "directory" : kind,
      size: kind === "file" ? size : 0,
      mode: number(header, 100, 8) & 0o7777,
      mtime: this.#next.mtime ?? number(header, 136, 12),
      target: this.#next.target ?? text(header, 157, 100),
    };
    this.#next = {};
    this.#sink.entry(entry);
    this.#inFile = entry.kind === "file";
    if (this.#inFile && size === 0) this.#endFile();
  }
}

function checkSum(header: Uint8Array): void {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 0x20 : (header[i] ?? 0);
  if (sum !== number(header, 148, 8)) throw invalid("a header has a wrong checksum");
}

/** Octal digits, or GNU's base 256 for what is too big for them. */
function number(header: Uint8Array, at: number, length: number): number {
  const first = header[at] ?? 0;
  if (first === 0x80) {
    let value = 0;
    for (let i = at + 1; i < at + length; i++) value = value * 256 + (header[i] ?? 0);
    if (!Number.isSafeInteger(value)) throw invalid("a number is too big");
    return value;
  }
  const digits = text(header, at, length).trim();
  if (!/^[0-7]*$/.test(digits)) throw invalid("a number is not octal");
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

function text(bytes: Uint8Array, at: number, length: number): string {
  const field = bytes.subarray(at, at + length);
  const end = field.indexOf(0);
  return decoder.decode(end < 0 ? field : field.subarray(0, end));
}

/** Records of `<length> <key>=<value>\n`. */
function paxMeta(bytes: Uint8Array): Meta {
  const meta: Meta = {};
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const length = Number(decoder.decode(bytes.subarray(at, space < 0 ? at : space)));
    if (!Number.isInteger(length) || length < 5 || at + length > bytes.length) {
      throw invalid("a pax header is broken");
    }
    const [key = "", ...value] = decoder
      .decode(bytes.subarray(space + 1, at + length - 1))
      .split("=");
    note(meta, key, value.join("="));
    at += length;
  }
  return meta;
}

function note(meta: Meta, key: string, value: string): void {
  if (key === "path") meta.path = value;
  if (key === "linkpath") meta.target = value;
  if (key === "mtime") meta.mtime = Math.max(0, Math.floor(Number(value) || 0));
  if (key.startsWith("GNU.sparse.")) throw invalid("it holds a sparse file");
  if (key !== "size") return;
  if (!/^\d{1,15}$/.test(value)) throw invalid("a size is not a number");
  meta.size = Number(value);
}

const invalid = (why: string) => new DecoError("archive_invalid", `not a tar that we take: ${why}`);
