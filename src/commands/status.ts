import { DecoError } from "../protocol/errors.ts";
import type { Command, CommandContext } from "./command.ts";
import { localDaemon } from "./home.ts";
import { callApi } from "./hub-client.ts";
import { printable } from "./output.ts";
import { isRecord, type JsonRecord, recordsOf, textOf } from "./record.ts";

/** Whatever is down: the answer comes within a second. */
const LIMIT_MS = 800;
/** {@link DecoError} `not_running`. */
const NOT_RUNNING_EXIT = 3;

/** `deco status`: the daemon's snapshot, over its unix socket. */
export function status(): Command {
  return async (context) => {
    const { out } = context;
    const snapshot = await askStatus(context);
    if (snapshot === undefined) {
      out.result({ state: "not_running" }, () => "not running");
      out.note("fix: start it with `deco up` or `deco link`.");
      return NOT_RUNNING_EXIT;
    }
    out.result(snapshot, () => humanStatus(snapshot));
    return 0;
  };
}

/**
 * The daemon's snapshot; undefined when none runs here.
 *
 * @throws DecoError `timeout` when a daemon holds the socket but does not answer.
 */
export async function askStatus(
  context: Pick<CommandContext, "env" | "signal">,
): Promise<JsonRecord | undefined> {
  const limit = AbortSignal.timeout(LIMIT_MS);
  const signal = AbortSignal.any([context.signal, limit]);
  try {
    const answer = await callApi(localDaemon(context.env), { path: "/v1/status", signal });
    if (isRecord(answer)) return answer;
    throw new DecoError("internal", "the daemon's status is no object");
  } catch (thrown) {
    if (thrown instanceof DecoError && thrown.code === "not_running") return undefined;
    if (!limit.aborted) throw thrown;
    throw new DecoError("timeout", `the daemon did not answer within ${LIMIT_MS} ms`, {
      fix: "Look at its log; if it hangs, end it and start it again.",
      cause: thrown,
    });
  }
}

/** One line per field, and one per element of a list; deeper values as short JSON. */
export function humanStatus(snapshot: JsonRecord): string {
  const width = Math.max(...Object.keys(snapshot).map((key) => key.length));
  const indent = `\n${" ".repeat(width + 2)}`;
  return Object.entries(snapshot)
    .map(([key, value]) => {
      const lines = key === "capabilities" ? recordsOf(snapshot, key).map(capability) : list(value);
      return `${key.padEnd(width)}  ${lines.map(oneLine).join(indent)}`;
    })
    .join("\n");
}

/** `docker 20.10.24 (x64)`, or why it can't be had. */
function capability(found: JsonRecord): string {
  const name = textOf(found["name"]);
  const reason = textOf(found["reason"]);
  if (found["available"] === false) {
    const fix = textOf(found["fix"]);
    return `${name}: not available: ${reason || "unknown"}${fix && ` (fix: ${fix})`}`;
  }
  const version = textOf(found["version"]);
  const arch = textOf(found["arch"]);
  const words = [name, version, arch && `(${arch})`].filter(Boolean).join(" ");
  const led = textOf(found["foundBy"]);
  const where = led && ` at ${textOf(found["address"])}, by ${led}`;
  const unconfined = found["confined"] === false ? ", UNCONFINED" : "";
  return `${words}${where}${unconfined}${reason && `: ${reason}`}`;
}

function list(value: unknown): string[] {
  if (!Array.isArray(value)) return [shown(value)];
  return value.length === 0 ? ["none"] : value.map(shown);
}

function oneLine(text: string): string {
  return printable(text.replaceAll(/\s+/g, " "));
}

function shown(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return String(value);
  return Object.entries(value)
    .filter(([, field]) => field !== undefined && field !== null)
    .map(
      ([key, field]) =>
        `${key}=${typeof field === "object" ? JSON.stringify(field) : String(field)}`,
    )
    .join(" ");
}
