import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from "node:fs";
import type { z } from "zod";
import { JsonLineError, parseJsonLines } from "../../protocol/json-lines.ts";

/** What one of the owner's hand-written files says; `problem` names the line that is wrong. */
export type OwnerFile<T> =
  | { readonly type: "absent" }
  | { readonly type: "read"; readonly value: T }
  | { readonly type: "broken"; readonly problem: string };

/** Larger ones are no settings. */
const MAX_BYTES = 4 * 1024 * 1024;
/** Not an error of its own; a byte order mark is passed over. */
const utf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * Reads a JSON file by a strict schema. Never throws, and waits for nobody: what is no file, is too
 * big, is somebody else's or anybody's to write, or is no UTF-8, is `broken`.
 */
export function readOwnerFile<T>(path: string, schema: z.ZodType<T>): OwnerFile<T> {
  let file: number;
  try {
    // A pipe would hold the whole daemon until somebody writes to it.
    file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (thrown) {
    const code = thrown instanceof Error && "code" in thrown ? thrown.code : undefined;
    return code === "ENOENT" || code === "ENOTDIR" ? { type: "absent" } : broken(String(thrown));
  }
  try {
    const problem = problemOf(fstatSync(file));
    return problem === undefined ? parsed(readFileSync(file), schema) : broken(problem);
  } catch (thrown) {
    return broken(String(thrown));
  } finally {
    closeSync(file);
  }
}

function parsed<T>(bytes: Uint8Array, schema: z.ZodType<T>): OwnerFile<T> {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    return broken("is not UTF-8");
  }
  try {
    const { value, lineOf } = parseJsonLines(text);
    const result = schema.safeParse(value);
    if (result.success) return { type: "read", value: result.data };
    const [issue] = result.error.issues;
    return broken(issue === undefined ? "is wrong" : told(issue, lineOf));
  } catch (thrown) {
    if (!(thrown instanceof JsonLineError)) throw thrown;
    return broken(thrown.message);
  }
}

function problemOf(file: Stats): string | undefined {
  if (!file.isFile()) return "is no file";
  if (file.size > MAX_BYTES) return `has ${file.size} bytes, over ${MAX_BYTES}`;
  const own = process.getuid?.();
  if (own === undefined) return undefined;
  if (file.uid !== own && file.uid !== 0) {
    return `belongs to uid ${file.uid}, not to ${own} (sudo chown ${own} mends it)`;
  }
  // A group of one's own is common; everybody's file is nobody's settings.
  return (file.mode & 0o002) === 0 ? undefined : "may be written by others (chmod go-w mends it)";
}

const broken = (problem: string) => ({ type: "broken", problem }) as const;

function told(issue: z.core.$ZodIssue, lineOf: (path: readonly PropertyKey[]) => number): string {
  const keys = issue.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
  const path = [...issue.path, ...keys];
  const where = path.length === 0 ? "" : `${path.join(".")}: `;
  // Of a name that is wrong, why it is stands a level below.
  const [why] = issue.code === "invalid_key" ? issue.issues : [issue];
  return `line ${lineOf(path)}: ${where}${why?.message ?? issue.message}`;
}
