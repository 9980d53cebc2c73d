import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { promisify } from "node:util";
import { DecoError } from "../protocol/errors.ts";
import type { TarKind } from "../protocol/tar-read.ts";
import { packTree } from "../sandbox/workspace/pack-tree.ts";
import { printable } from "./output.ts";

const LIST_BYTES = 64 * 1024 * 1024;

/**
 * A folder as a tar for a sandbox, without `.git`: its settings may hold tokens. In a work tree of
 * git what git ignores stays here (so do `.env` and `node_modules` there); elsewhere all goes.
 *
 * @param note told of what was left out because it can't be read or is no file
 */
export async function syncFolder(
  dir: string,
  o: { note: (line: string) => void; signal: AbortSignal },
): Promise<{ tar: ReadableStream<Uint8Array>; byGit: boolean }> {
  const wanted = await gitFiles(dir, o.signal);
  const select = (path: string, kind: TarKind) => {
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (name === ".git") return false;
    if (wanted === undefined) return true;
    if (kind !== "directory") return wanted.files.has(path);
    // To git a submodule is one entry, and what is in it another work tree's.
    if (wanted.files.has(path)) o.note(`not sent: ${printable(path)} (a submodule)`);
    return wanted.folders.has(path);
  };
  const onLeftOut = (path: string, why: string) => o.note(`not sent: ${printable(path)} (${why})`);
  return { tar: packTree(dir, { select, onLeftOut }), byGit: wanted !== undefined };
}

/** Asked before a run is dispatched that would wait for it. @throws usage */
export async function checkFolder(dir: string): Promise<void> {
  const found = await stat(dir).catch(() => undefined);
  if (found?.isDirectory() === true) return;
  throw new DecoError("usage", `--sync ${dir}: no such folder`, { fix: "Name a folder." });
}

/** What git tracks or would; undefined outside of a work tree, and without git. */
async function gitFiles(dir: string, signal: AbortSignal) {
  // The folder's own settings may name a program that git would run; a guest may have written them.
  const harmless = ["-c", "core.fsmonitor=false", "-C", dir];
  const argv = [...harmless, "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const listed = await promisify(execFile)("git", argv, { maxBuffer: LIST_BYTES, signal }).catch(
    () => undefined,
  );
  signal.throwIfAborted();
  if (listed === undefined) return undefined;
  const files = new Set(listed.stdout.split("\0").filter((path) => path !== ""));
  const folders = new Set<string>();
  for (const path of files) {
    for (let at = path.indexOf("/"); at > 0; at = path.indexOf("/", at + 1)) {
      folders.add(path.slice(0, at));
    }
  }
  return { files, folders };
}
