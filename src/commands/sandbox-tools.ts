import { once } from "node:events";
import { DecoError } from "../protocol/errors.ts";
import type { Command } from "./command.ts";
import { localDaemon } from "./home.ts";
import { callApi, callStream } from "./hub-client.ts";
import { printable } from "./output.ts";
import { asRecord, recordsOf, textOf } from "./record.ts";
import { table } from "./text-table.ts";

/** An engine may list and remove for long. */
const PRUNE_TIMEOUT_MS = 600_000;

const pathOf = (handle: string) => `/v1/sandboxes/${encodeURIComponent(handle)}`;

/** `deco sandbox inspect HANDLE`. */
export function inspect(handle: string): Command {
  return async ({ env, out, signal }) => {
    const found = asRecord(await callApi(localDaemon(env), { path: pathOf(handle), signal }));
    out.result(found, () =>
      table(
        ["FIELD", "VALUE"],
        Object.entries(found).map(([name, value]) => [
          name,
          printable(typeof value === "string" ? value : JSON.stringify(value)),
        ]),
      ),
    );
    return 0;
  };
}

/** `deco sandbox logs HANDLE [--lines N]`. */
export function logs(handle: string, flags: { readonly lines?: number }): Command {
  return async ({ env, out, signal }) => {
    const path = `${pathOf(handle)}/logs?lines=${flags.lines ?? 200}`;
    const answer = asRecord(await callApi(localDaemon(env), { path, signal }));
    out.result(answer, () => printable(textOf(answer["text"])).trimEnd());
    return 0;
  };
}

/** `deco sandbox exec HANDLE -- CMD…`: ends with the program's own exit code. */
export function exec(handle: string, command: readonly string[]): Command {
  return async ({ env, out, signal }) => {
    const call = { method: "POST", path: `${pathOf(handle)}/exec`, body: { command }, signal };
    const said = { stdout: "", stderr: "" };
    for await (const { event, data } of callStream(localDaemon(env), call)) {
      if (data === "") continue;
      const payload = asRecord(JSON.parse(data));
      if (event === "error") throw DecoError.fromProblem(payload);
      if (event === "exit") {
        const exitCode = Number(payload["exitCode"]);
        if (out.json) out.result({ handle, exitCode, ...said }, () => "");
        return exitCode;
      }
      const stream = payload["stream"] === "stderr" ? "stderr" : "stdout";
      const content = textOf(payload["content"]);
      if (out.json) said[stream] += content;
      else await print(stream, content, signal);
    }
    throw new DecoError("not_running", "the daemon ended before the program did");
  };
}

/** As the program wrote it, unless a terminal would act on it. Who reads slowly holds the program. */
async function print(stream: "stdout" | "stderr", content: string, signal: AbortSignal) {
  const to = process[stream];
  const taken = to.write(to.isTTY ? printable(content) : content);
  if (!taken) await once(to, "drain", { signal });
}

/** `deco sandbox prune [--execute] [--force]`: a dry run unless it is told otherwise. */
export function prune(flags: { readonly execute?: boolean; readonly force?: boolean }): Command {
  return async ({ env, out, signal }) => {
    if (flags.force && !flags.execute) {
      throw new DecoError("usage", "--force is for --execute", { fix: "Add --execute." });
    }
    const asked = flags.execute
      ? { method: "POST", body: { force: flags.force === true } }
      : { method: "GET" };
    const call = { ...asked, path: "/v1/prune", signal, headersTimeoutMs: PRUNE_TIMEOUT_MS };
    const report = asRecord(await callApi(localDaemon(env), call));
    const [candidates, removed, failed, unknown] = [
      "candidates",
      "removed",
      "failed",
      "unknown",
    ].map((name) => recordsOf(report, name));
    for (const one of [...(unknown ?? []), ...(failed ?? [])]) {
      const what = [one["provider"], one["kind"], one["name"]].map(textOf).join(" ").trim();
      out.note(`${what}: ${printable(textOf(one["detail"]))}\nfix: ${textOf(one["fix"])}`);
    }
    const total = Number(report["total"]);
    const rows = flags.execute ? (removed ?? []) : (candidates ?? []);
    out.result({ dryRun: !flags.execute, ...report }, () => {
      if (rows.length === 0 && (unknown ?? []).length > 0)
        return "nothing is removed of what is not known";
      if (rows.length === 0) return `nothing to remove (of ${total})`;
      const columns = ["kind", "name", "createdAt", "reason"];
      const lines = rows.map((row) => columns.map((name) => printable(textOf(row[name]))));
      const listed = table(["KIND", "NAME", "CREATED", "REASON"], lines);
      const said = flags.execute
        ? `removed ${rows.length} of ${total}`
        : `${rows.length} of ${total} would go: add --execute`;
      return `${listed}\n${said}`;
    });
    return (failed ?? []).length + (unknown ?? []).length > 0 ? 1 : 0;
  };
}
