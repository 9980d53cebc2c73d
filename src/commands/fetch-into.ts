import { unpack } from "../harnessd/unpack.ts";
import { DecoError } from "../protocol/errors.ts";
import { globMatcher } from "../protocol/glob.ts";
import type { TarEntry } from "../protocol/tar-read.ts";
import { ARCHIVE_LIMITS, type TarTotals } from "../protocol/tar-rules.ts";
import { untilAbort } from "../sandbox/until-abort.ts";
import { printable } from "./output.ts";

export interface FetchOptions {
  /** What was asked for: nothing else is written, whoever sent it. */
  readonly globs: readonly string[];
  /** Told of each file that was left out, without control characters. */
  readonly note: (line: string) => void;
  readonly limits?: FetchLimits;
}

export interface FetchLimits {
  /** Members that are left out, folders included, and their bytes together. */
  readonly skipped: number;
  readonly skippedBytes: number;
  /** Milliseconds for all of it, and without a byte. */
  readonly totalMs: number;
  readonly stallMs: number;
}

/** As much may be left out as may be taken; an hour is 1 GiB at 2.4 Mbit/s. */
const LIMITS: FetchLimits = {
  skipped: ARCHIVE_LIMITS.entries,
  skippedBytes: ARCHIVE_LIMITS.bytes,
  totalMs: 3_600_000,
  stallMs: 60_000,
};

/** More than that nobody reads. */
const NOTED = 20;

/**
 * Writes the files of a tar below a folder of the user's. What is in a sandbox is anybody's, and so
 * is what a hub makes of it.
 *
 * @throws archive_invalid, body_too_large, storage_failed, timeout; what was written before stays
 */
export async function fetchInto(
  into: string,
  body: AsyncIterable<Uint8Array>,
  { globs, note, limits = LIMITS }: FetchOptions,
): Promise<TarTotals> {
  const asked = globMatcher(globs);
  const shown = globMatcher(globs, { hidden: false });
  const count = countSkipped(limits);
  let left = 0;
  const skip = (entry: TarEntry) => {
    // Files bring their folders; those that are there keep their modes.
    const why = entry.kind === "directory" ? "" : whyNot(entry, { asked, shown });
    if (why === undefined) return false;
    count(entry);
    if (why === "") return true;
    left += 1;
    if (left <= NOTED) note(`not fetched: ${printable(entry.path.slice(0, 500))} (${why})`);
    return true;
  };
  const totals = await unpack(into, inTime(body, limits), { keep: false, masked: true, skip });
  if (left > NOTED) note(`not fetched: ${left - NOTED} more`);
  return totals;
}

/** Nothing of it is kept, but to read it takes as long. @throws body_too_large */
function countSkipped({ skipped, skippedBytes }: FetchLimits) {
  let [members, bytes] = [0, 0];
  return ({ size }: TarEntry) => {
    members += 1;
    bytes += size;
    if (members <= skipped && bytes <= skippedBytes) return;
    const what = members > skipped ? `${skipped} members` : `${skippedBytes} bytes`;
    throw new DecoError("body_too_large", `over ${what} came that are not fetched`, {
      fix: "Name fewer files with --fetch, or ask the hub's owner what it sends.",
    });
  };
}

/** Whoever sends a byte now and then ends, too. @throws timeout */
async function* inTime(
  body: AsyncIterable<Uint8Array>,
  { totalMs, stallMs }: FetchLimits,
): AsyncGenerator<Uint8Array> {
  const late = new AbortController();
  const end = (why: string) => late.abort(new DecoError("timeout", `files to fetch: ${why}`));
  const total = setTimeout(() => end(`not done in ${totalMs} ms`), totalMs);
  const stall = setTimeout(() => end(`nothing for ${stallMs} ms`), stallMs);
  const pieces = body[Symbol.asyncIterator]();
  try {
    for (;;) {
      stall.refresh();
      const { done, value } = await untilAbort(pieces.next(), late.signal);
      if (done === true) return;
      yield value;
    }
  } finally {
    clearTimeout(total);
    clearTimeout(stall);
    // Not waited for: what hangs would hang here, too.
    pieces.return?.().catch(() => undefined);
  }
}

type Match = (path: string) => boolean;

/** No links, nothing that git would run, nothing that lies hidden unless it was named. */
function whyNot(
  { kind, path }: TarEntry,
  { asked, shown }: { asked: Match; shown: Match },
): string | undefined {
  if (kind !== "file") return `a ${kind}`;
  if (/[\p{Cc}\\]/u.test(path)) return "its name holds control characters or backslashes";
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.some(isGit)) return "git would run what is in there";
  const plain = parts.join("/");
  if (!asked(plain)) return "not asked for";
  return shown(plain) ? undefined : "hidden: name it with its dot, or its folder without wildcards";
}

/** Some file systems pass over case and invisible characters, or know a short name. */
function isGit(part: string): boolean {
  const seen = part.replaceAll(/\p{Cf}/gu, "").toLowerCase();
  return /^(?:\.git|git~\d+)[. ]*$/.test(seen);
}
