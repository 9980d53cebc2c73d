import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  futimesSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { DecoError } from "../protocol/errors.ts";
import { type TarEntry, TarReader } from "../protocol/tar-read.ts";
import { type TarTotals, tarRules } from "../protocol/tar-rules.ts";

export interface UnpackOptions {
  /** Leaves files alone that are there already. */
  readonly keep: boolean;
  /** Whether files get no more rights than this process gives new ones; else just their own. */
  readonly masked?: boolean;
  /** What is left out, before anything of it is looked at. */
  readonly skip?: (entry: TarEntry) => boolean;
}

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;

/**
 * Unpacks a tar below a folder as it comes in, with its modes and times; what stands in a file's
 * way is replaced, nothing else is removed, and no link that is there already is written through.
 *
 * Calls of the file system are synchronous: 10,000 small files take a third of the time, and
 * between two pieces of the body everything else goes on.
 *
 * @throws archive_invalid, body_too_large, storage_failed
 */
export async function unpack(
  root: string,
  body: AsyncIterable<Uint8Array>,
  options: UnpackOptions,
): Promise<TarTotals> {
  const rules = tarRules();
  const folder = new Folder(root, options);
  const reader = new TarReader({
    entry: (entry) => {
      if (options.skip?.(entry) !== true) folder.take(rules.check(entry), entry);
    },
    data: (bytes) => folder.write(bytes),
    fileEnd: () => folder.endFile(),
  });
  try {
    for await (const chunk of body) reader.push(chunk);
    reader.end();
    folder.finish();
  } catch (thrown) {
    if (thrown instanceof DecoError) throw thrown;
    const said = thrown instanceof Error ? thrown.message : String(thrown);
    throw new DecoError("storage_failed", `can't write into the workspace: ${said}`, {
      cause: thrown,
    });
  } finally {
    folder.close();
  }
  return rules.totals();
}

class Folder {
  readonly #root: string;
  readonly #keep: boolean;
  readonly #umask = process.umask();
  /** Rights that files may have at all. */
  readonly #given: number;
  /** Folders that were looked at: no links. */
  readonly #known = new Set<string>([""]);
  /** Set at the end: one without write permission must be filled first. */
  readonly #modes = new Map<string, number>();
  #file: { readonly fd: number; readonly mtime: number } | undefined;

  constructor(root: string, { keep, masked = false }: UnpackOptions) {
    this.#root = root;
    this.#keep = keep;
    this.#given = masked ? 0o777 & ~this.#umask : 0o777;
  }

  take(path: string, entry: TarEntry): void {
    if (entry.kind === "directory") {
      this.#directory(path);
      // The folder itself keeps its own: it is the sandbox's.
      if (path !== "") this.#modes.set(path, entry.mode & 0o777);
      return;
    }
    const parent = path.lastIndexOf("/");
    if (parent > 0) this.#directory(path.slice(0, parent));
    if (entry.kind === "file") this.#create(path, entry);
    else this.#link(path, entry);
  }

  write(bytes: Uint8Array): void {
    if (this.#file === undefined) return;
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#file.fd, bytes, at);
  }

  endFile(): void {
    if (this.#file === undefined) return;
    futimesSync(this.#file.fd, this.#file.mtime, this.#file.mtime);
    this.close();
  }

  finish(): void {
    for (const [path, mode] of [...this.#modes].toReversed()) chmodSync(this.#at(path), mode);
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file.fd);
    this.#file = undefined;
  }

  #create(path: string, { mode, mtime }: TarEntry): void {
    const wanted = mode & this.#given;
    const open = () =>
      openSync(this.#at(path), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, wanted | 0o200);
    const fd = this.#inPlace(path, open);
    if (fd === undefined) return;
    this.#file = { fd, mtime };
    if (((wanted | 0o200) & ~this.#umask) !== wanted) fchmodSync(fd, wanted);
  }

  #link(path: string, { kind, target }: TarEntry): void {
    const source = this.#at(target);
    this.#inPlace(path, () =>
      kind === "symlink" ? symlinkSync(target, this.#at(path)) : linkSync(source, this.#at(path)),
    );
  }

  /** Undefined when something is there that is to be kept. */
  #inPlace<T>(path: string, make: () => T): T | undefined {
    try {
      return make();
    } catch (thrown) {
      if (!isCode(thrown, "EEXIST")) throw thrown;
      if (this.#keep) return undefined;
      if (lstatSync(this.#at(path)).isDirectory()) throw inTheWay(path, "a folder");
      unlinkSync(this.#at(path));
      return make();
    }
  }

  #directory(path: string): void {
    if (this.#known.has(path)) return;
    const parent = path.lastIndexOf("/");
    if (parent > 0) this.#directory(path.slice(0, parent));
    try {
      mkdirSync(this.#at(path), 0o755);
    } catch (thrown) {
      if (!isCode(thrown, "EEXIST")) throw thrown;
      if (!lstatSync(this.#at(path)).isDirectory()) throw inTheWay(path, "no folder");
    }
    this.#known.add(path);
  }

  #at(path: string): string {
    return join(this.#root, path);
  }
}

function isCode(thrown: unknown, code: string): boolean {
  return thrown instanceof Error && "code" in thrown && thrown.code === code;
}

function inTheWay(path: string, what: string): DecoError {
  const detail = `in the workspace ${JSON.stringify(path)} is ${what}`;
  return new DecoError("archive_invalid", detail, { fix: "Remove it there, or leave it out." });
}
