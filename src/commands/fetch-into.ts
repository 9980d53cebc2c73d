import { unpack } from "../harnessd/unpack.ts";
import { globMatcher } from "../protocol/glob.ts";
import type { TarEntry } from "../protocol/tar-read.ts";
import type { TarTotals } from "../protocol/tar-rules.ts";
import { printable } from "./output.ts";

export interface FetchOptions {
  /** What was asked for: nothing else is written, whoever sent it. */
  readonly globs: readonly string[];
  /** Told of each file that was left out, without control characters. */
  readonly note: (line: string) => void;
}

/** More than that nobody reads. */
const NOTED = 20;

/**
 * Writes the files of a tar below a folder of the user's. What is in a sandbox is anybody's, and so
 * is what a hub makes of it.
 *
 * @throws archive_invalid, body_too_large, storage_failed
 */
export async function fetchInto(
  into: string,
  body: AsyncIterable<Uint8Array>,
  { globs, note }: FetchOptions,
): Promise<TarTotals> {
  const asked = globMatcher(globs);
  const shown = globMatcher(globs, { hidden: false });
  let left = 0;
  const skip = (entry: TarEntry) => {
    // Files bring their folders; those that are there keep their modes.
    if (entry.kind === "directory") return true;
    const why = whyNot(entry, { asked, shown });
    if (why === undefined) return false;
    left += 1;
    if (left <= NOTED) note(`not fetched: ${printable(entry.path.slice(0, 500))} (${why})`);
    return true;
  };
  const totals = await unpack(into, body, { keep: false, masked: true, skip });
  if (left > NOTED) note(`not fetched: ${left - NOTED} more`);
  return totals;
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
