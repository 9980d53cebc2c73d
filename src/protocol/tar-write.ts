import type { TarEntry } from "./tar-read.ts";

const BLOCK = 512;
/** Ten blocks of 512 bytes end a tar by habit; two must. */
export const TAR_END_BYTES = 1024;
const MAX_OCTAL = 0o77777777777;
const encoder = new TextEncoder();

/** Bytes that pad content of this size to whole blocks. */
export const tarPadding = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

/**
 * The header of one member, owner root; with a pax header before it where ustar has no room. Not
 * for kind `other`.
 */
export function tarHeader(entry: TarEntry): Uint8Array {
  const path = entry.kind === "directory" ? `${entry.path}/` : entry.path;
  const [name, target] = [encoder.encode(path), encoder.encode(entry.target)];
  const records = [
    ...(name.length > 100 ? [paxRecord("path", path)] : []),
    ...(target.length > 100 ? [paxRecord("linkpath", entry.target)] : []),
    ...(entry.size > MAX_OCTAL ? [paxRecord("size", String(entry.size))] : []),
  ];
  const own = block({ ...entry, size: Math.min(entry.size, MAX_OCTAL) }, name, target);
  if (records.length === 0) return own;
  const meta = joined(records);
  const head = block({ ...entry, size: meta.length }, encoder.encode("pax"), EMPTY, "x");
  return joined([head, meta, new Uint8Array(tarPadding(meta.length)), own]);
}

const EMPTY = new Uint8Array(0);
const TYPES = { file: "0", hardlink: "1", symlink: "2", directory: "5", other: "0" } as const;

function block(
  { kind, size, mode, mtime }: TarEntry,
  name: Uint8Array,
  target: Uint8Array,
  type: string = TYPES[kind],
): Uint8Array {
  const header = new Uint8Array(BLOCK);
  header.set(name.subarray(0, 100), 0);
  put(header, 100, octal(mode & 0o7777, 7));
  put(header, 108, octal(0, 7));
  put(header, 116, octal(0, 7));
  put(header, 124, octal(size, 11));
  put(header, 136, octal(Math.min(MAX_OCTAL, Math.max(0, Math.floor(mtime))), 11));
  put(header, 148, "        ");
  put(header, 156, type);
  header.set(target.subarray(0, 100), 157);
  put(header, 257, "ustar\0");
  put(header, 263, "00");
  let sum = 0;
  for (const byte of header) sum += byte;
  put(header, 148, `${sum.toString(8).padStart(6, "0")}\0 `);
  return header;
}

const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");

function put(header: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i++) header[at + i] = text.charCodeAt(i);
}

/** `<length> key=value\n`, where the length counts its own digits. */
function paxRecord(key: string, value: string): Uint8Array {
  const rest = encoder.encode(` ${key}=${value}\n`);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length)
    length = String(length).length + rest.length;
  return joined([encoder.encode(String(length)), rest]);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
