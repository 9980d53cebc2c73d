import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readlinkSync,
  readSync,
  type Stats,
} from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { TarEntry, TarKind } from "../../protocol/tar-read.ts";
import { TAR_END_BYTES, tarHeader, tarPadding } from "../../protocol/tar-write.ts";

export interface PackOptions {
  /** By path below the folder; what is left out is not looked into. All when absent. */
  readonly select?: (path: string, kind: TarKind) => boolean;
  /** Told of what has no place in a tar of ours: sockets, devices, what could not be read. */
  readonly onLeftOut?: (path: string, why: string) => void;
}

/** Names that are looked at in one turn of the event loop: a folder may have a million. */
const NAMES_A_TURN = 256;
/** Big enough that one piece pays for its way through streams and sockets. */
const PIECE_BYTES = 256 * 1024;
const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

type Parts = AsyncGenerator<Uint8Array, void, undefined>;

/**
 * A folder as a tar, in pieces that are made only when they are asked for. No link is followed: on
 * Linux not even one that somebody puts in a folder's place meanwhile.
 *
 * The event loop has a turn after each file, each piece of one, and every so many names, chosen or
 * not: the daemon packs what guests made. A file's own calls are synchronous, as four ways through
 * the thread pool cost more than a small file.
 */
export function packTree(root: string, options: PackOptions = {}): ReadableStream<Uint8Array> {
  const pieces = gathered(members(root, options));
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await pieces.next();
        if (next.done === true) controller.close();
        else controller.enqueue(next.value);
      },
      async cancel() {
        await pieces.return();
      },
    },
    { highWaterMark: 1 },
  );
}

/** Small pieces put together, so that 10,000 files are not 30,000 chunks. */
async function* gathered(parts: Parts): Parts {
  let piece = new Uint8Array(PIECE_BYTES);
  let filled = 0;
  for await (const part of parts) {
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

async function* members(root: string, options: PackOptions): Parts {
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

async function* folder(open: OpenFolder, below: string, options: PackOptions): Parts {
  const here = process.platform === "linux" ? `/proc/self/fd/${open.fd}` : open.path;
  const children = await readdir(here, { withFileTypes: true });
  children.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const [index, child] of children.entries()) {
    if (index % NAMES_A_TURN === NAMES_A_TURN - 1) await nextTurn();
    const path = below === "" ? child.name : `${below}/${child.name}`;
    const kind = child.isDirectory() ? "directory" : child.isSymbolicLink() ? "symlink" : "file";
    if (options.select?.(path, kind) === false) continue;
    if (kind === "symlink") yield tarHeader(linkEntry(path, readlinkSync(join(here, child.name))));
    else yield* one(join(here, child.name), path, options);
  }
}

async function* one(at: string, path: string, o: PackOptions): Parts {
  await nextTurn();
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
async function* content(fd: number, size: number): Parts {
  const buffer = new Uint8Array(Math.min(size, PIECE_BYTES));
  let left = size;
  while (left > 0) {
    const read = readSync(fd, buffer, 0, Math.min(left, buffer.length), null);
    const piece =
      read === 0 ? new Uint8Array(Math.min(left, PIECE_BYTES)) : buffer.subarray(0, read);
    left -= piece.length;
    yield piece;
    if (left > 0) await nextTurn();
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
