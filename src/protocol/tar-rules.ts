import { DecoError } from "./errors.ts";
import type { TarEntry, TarKind } from "./tar-read.ts";

export interface TarLimits {
  /** Members, folders and links included. */
  readonly entries: number;
  /** Content of all files together. */
  readonly bytes: number;
  /** Of all paths together, in characters: they are kept until the end, to know what comes twice. */
  readonly names: number;
}

/** What an upload may hold: 10,000 files with their folders, 200 MiB, and room to spare. */
export const ARCHIVE_LIMITS: TarLimits = {
  entries: 50_000,
  bytes: 1024 * 1024 * 1024,
  names: 16 * 1024 * 1024,
};

/** The media type of a tar without compression, as we send it. */
export const TAR_TYPE = "application/x-tar";

/** Whether a body of this content type may be a tar; a sender that names none is believed. */
export function mayBeTar(contentType: string | undefined): boolean {
  const type = (contentType ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
  return ["", TAR_TYPE, "application/tar", "application/octet-stream"].includes(type);
}

/** What has been taken so far. */
export interface TarTotals {
  readonly files: number;
  readonly bytes: number;
}

/**
 * What a tar may do below a folder: every member and every link stays in it, whatever was there
 * before and in whichever order they come.
 */
export interface TarRules {
  /**
   * The member's path without `./` and `/` at its ends; empty for the folder itself.
   *
   * @throws archive_invalid, body_too_large
   */
  check(entry: TarEntry): string;
  totals(): TarTotals;
}

export function tarRules(limits: TarLimits = ARCHIVE_LIMITS): TarRules {
  const seen = new Map<string, TarKind>();
  let [entries, files, bytes, names] = [0, 0, 0, 0];
  return {
    check(entry) {
      const { path: raw, kind, size, target } = entry;
      const path = safePath(raw);
      if (kind === "other") throw invalid(raw, "is neither a file, a folder nor a link");
      if (path === "" && kind !== "directory") throw invalid(raw, "has no name");
      checkParents(path, raw, seen);
      const before = seen.get(path);
      if (before !== undefined && !(before === "directory" && kind === "directory")) {
        throw invalid(raw, "comes twice");
      }
      if (kind === "symlink") checkSymlink(path, target);
      if (kind === "hardlink" && seen.get(safePath(target)) !== "file") {
        throw invalid(raw, "is a hard link to no file of this archive");
      }
      if (path !== "") seen.set(path, kind);
      entries += 1;
      files += kind === "directory" ? 0 : 1;
      bytes += size;
      names += path.length;
      if (entries > limits.entries) throw tooMuch(`over ${limits.entries} members`);
      if (bytes > limits.bytes) throw tooMuch(`over ${limits.bytes} bytes of files`);
      if (names > limits.names) throw tooMuch(`over ${limits.names} characters of paths`);
      return path;
    },
    totals: () => ({ files, bytes }),
  };
}

/**
 * A path below the folder, without empty parts and `.`.
 *
 * @throws archive_invalid for one that is absolute or has `..`
 */
export function safePath(raw: string): string {
  if (raw.startsWith("/")) throw invalid(raw, "is absolute");
  if (raw.includes("\0")) throw invalid(raw, "holds a NUL");
  const parts = raw.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw invalid(raw, "leaves the folder");
  if (raw.length > 4096 || parts.some((part) => part.length > 255)) {
    throw invalid(raw.slice(0, 100), "is too long");
  }
  return parts.join("/");
}

function checkParents(path: string, raw: string, seen: ReadonlyMap<string, TarKind>): void {
  for (let at = path.indexOf("/"); at > 0; at = path.indexOf("/", at + 1)) {
    const kind = seen.get(path.slice(0, at));
    if (kind !== undefined && kind !== "directory") {
      throw invalid(raw, "is below what is no folder");
    }
  }
}

/** `..` only at the front, and no more of it than folders above: then no chain of links leaves. */
function checkSymlink(path: string, target: string): void {
  const parts = target.split("/").filter((part) => part !== "" && part !== ".");
  const up = parts.findIndex((part) => part !== "..");
  const leading = up < 0 ? parts.length : up;
  const depth = path.split("/").length - 1;
  const leaves = target === "" || target.startsWith("/") || target.includes("\0");
  if (leaves || leading > depth || parts.slice(leading).includes("..")) {
    throw invalid(path, `is a link that leaves the folder, or may: ${target.slice(0, 200)}`);
  }
}

function invalid(path: string, why: string): DecoError {
  const shown = JSON.stringify(path.slice(0, 200));
  return new DecoError("archive_invalid", `${shown} ${why}`);
}

function tooMuch(what: string): DecoError {
  return new DecoError("body_too_large", `the archive holds ${what}`, {
    fix: "Send less: leave out what the sandbox can fetch or build by itself.",
  });
}
