import { readFileSync } from "node:fs";
import type { z } from "zod";
import { JsonLineError, parseJsonLines } from "../../protocol/json-lines.ts";

/** What one of the owner's hand-written files says; `problem` names the line that is wrong. */
export type OwnerFile<T> =
  | { readonly type: "absent" }
  | { readonly type: "read"; readonly value: T }
  | { readonly type: "broken"; readonly problem: string };

/** Larger ones are no settings. */
const MAX_BYTES = 4 * 1024 * 1024;

/** Reads a JSON file by a strict schema. Never throws: what can't be read is `broken`. */
export function readOwnerFile<T>(path: string, schema: z.ZodType<T>): OwnerFile<T> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (thrown) {
    const code = thrown instanceof Error && "code" in thrown ? thrown.code : undefined;
    return code === "ENOENT" || code === "ENOTDIR"
      ? { type: "absent" }
      : { type: "broken", problem: String(thrown) };
  }
  if (text.length > MAX_BYTES) return { type: "broken", problem: `is over ${MAX_BYTES} bytes` };
  try {
    const { value, lineOf } = parseJsonLines(text);
    const parsed = schema.safeParse(value);
    if (parsed.success) return { type: "read", value: parsed.data };
    const [issue] = parsed.error.issues;
    return { type: "broken", problem: issue === undefined ? "is wrong" : told(issue, lineOf) };
  } catch (thrown) {
    if (!(thrown instanceof JsonLineError)) throw thrown;
    return { type: "broken", problem: thrown.message };
  }
}

function told(issue: z.core.$ZodIssue, lineOf: (path: readonly PropertyKey[]) => number): string {
  const keys = issue.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
  const path = [...issue.path, ...keys];
  const where = path.length === 0 ? "" : `${path.join(".")}: `;
  return `line ${lineOf(path)}: ${where}${issue.message}`;
}
