import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  type Stats,
} from "node:fs";
import { join } from "node:path";
import type { TarEntry, TarKind } from "../../protocol/tar-read.ts";
import { TAR_END_BYTES, tarHeader, tarPadding } from "../../protocol/tar-write.ts";

export interface PackOptions {
  /** By path below the folder; what is left out is not looked into. All when absent. */
  readonly select?: (path: string, kind: TarKind) => boolean;
  /** Told of what has no place in a tar of ours: sockets, devices, what could not be read. */
  readonly onLeftOut?: (path: string, why: string) => void;
}

/** Big enough that one piece pays for its way through streams and sockets. */
const PIECE_BYTES = 256 * 1024;
const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/**
 * A folder as a tar, in pieces that are made only when they are asked for. No link is followed: on
 * Linux not even one that somebody puts in a folder's place meanwhile.
 */
export function packTree(root: string, options: PackOptions = {}): ReadableStream<Uint8Array> {
  const pieces = gathered(members(root, options));
  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const next = pieces.next();
        if (next.done === true) controller.close();
        else controller.enqueue(next.value);
      },
      cancel() {
        pieces.return();
      },
    },
    { highWaterMark: 1 },
  );
}

/** Small pieces put together, so that 10,000 files are not 30,000 chunks. */
function* gathered(
  parts: Generator<Uint8Array, void, undefined>,
): Generator<Uint8Array, void, undefined> {
  let piece = new Uint8Array(PIECE_BYTES);
  let filled = 0;
  for (const part of parts) {
    for (let at = 0; at < part.length; ) {
      const taken = Math.min(part.length - at, PIECE_BYTES - filled);
      piece.set(part.subarray(at, at + taken), filled);
      at += taken;
      filled += taken;
      if (filled < PIECE_BYTES) continue;
      yield piece;
      piece = new Uint8Array(PIECE_BYTES);
      filled = 0;
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
}

function* members(root: string, options: PackOptions): Generator<Uint8Array, void, undefined> {
  const fd = openSync(root, O_RDONLY | O_DIRECTORY);
  try {
    yield* folder({ fd, path: root }, "", options);
  } finally {
    closeSync(fd);
  }
  yield new Uint8Array(TAR_END_BYTES);
}

interface OpenFolder {
  readonly fd: number;
  readonly path: string;
}

function* folder(
  open: OpenFolder,
  below: string,
  options: PackOptions,
): Generator<Uint8Array, void, undefined> {
  const here = process.platform === "linux" ? `/proc/self/fd/${open.fd}` : open.path;
  const children = readdirSync(here, { withFileTypes: true });
  for (const child of children.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = below === "" ? child.name : `${below}/${child.name}`;
    const kind = child.isDirectory() ? "directory" : child.isSymbolicLink() ? "symlink" : "file";
    if (options.select?.(path, kind) === false) continue;
    if (kind === "symlink") yield tarHeader(linkEntry(path, readlinkSync(join(here, child.name))));
    else yield* one(join(here, child.name), path, options);
  }
}

function* one(at: string, path: string, o: PackOptions): Generator<Uint8Array, void, undefined> {
  let fd: number;
  try {
    // Not blocking: a FIFO would wait for a writer.
    fd = openSync(at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (thrown) {
    o.onLeftOut?.(path, thrown instanceof Error ? thrown.message : String(thrown));
    return;
  }
  try {
    const stats = fstatSync(fd);
    if (stats.isDirectory()) {
      yield tarHeader(entryOf(path, "directory", stats));
      yield* folder({ fd, path: at }, path, o);
    } else if (stats.isFile()) {
      yield tarHeader(entryOf(path, "file", stats));
      yield* content(fd, stats.size);
    } else o.onLeftOut?.(path, "neither a file nor a folder");
  } finally {
    closeSync(fd);
  }
}

/** Exactly as many bytes as the header said, whatever happens to the file meanwhile. */
function* content(fd: number, size: number): Generator<Uint8Array, void, undefined> {
  const buffer = new Uint8Array(Math.min(size, PIECE_BYTES));
  let left = size;
  while (left > 0) {
    const read = readSync(fd, buffer, 0, Math.min(left, buffer.length), null);
    const piece =
      read === 0 ? new Uint8Array(Math.min(left, PIECE_BYTES)) : buffer.subarray(0, read);
    left -= piece.length;
    yield piece;
  }
  yield new Uint8Array(tarPadding(size));
}

function entryOf(path: string, kind: TarKind, { size, mode, mtimeMs }: Stats): TarEntry {
  const bytes = kind === "file" ? size : 0;
  const mtime = Math.floor(mtimeMs / 1000);
  return { path, kind, size: bytes, mode: mode & 0o777, mtime, target: "" };
}

const linkEntry = (path: string, target: string): TarEntry => ({
  path,
  kind: "symlink",
  size: 0,
  mode: 0o777,
  mtime: 0,
  target,
});
