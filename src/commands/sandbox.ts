import { DecoError } from "../protocol/errors.ts";
import type { Command } from "./command.ts";
import { localDaemon } from "./home.ts";
import { type ApiTarget, callApi } from "./hub-client.ts";
import { printable } from "./output.ts";
import { recordsOf, textOf } from "./record.ts";
import { table } from "./text-table.ts";

/** `deco sandbox ls`, asked of the local daemon. */
export function list(): Command {
  return async ({ env, out, signal }) => {
    const answer = await callApi(localDaemon(env), { path: "/v1/sandboxes", signal });
    const sandboxes = recordsOf(answer, "sandboxes");
    const errors = recordsOf(answer, "errors");
    for (const one of errors) {
      const [provider, detail, fix] = ["provider", "detail", "fix"].map((name) =>
        printable(textOf(one[name])),
      );
      out.note(`${provider}: ${detail}\nfix: ${fix}`);
    }
    out.result({ sandboxes, errors }, () => {
      if (sandboxes.length === 0)
        return errors.length === 0 ? "no sandboxes" : "no sandboxes that are known of";
      const columns = ["handle", "provider", "status", "startedAt", "image"];
      const rows = sandboxes.map((row) => columns.map((name) => printable(textOf(row[name]))));
      return table(["HANDLE", "PROVIDER", "STATUS", "STARTED", "IMAGE"], rows);
    });
    return 0;
  };
}

/**
 * `deco sandbox rm HANDLE… [--force]`. Already gone is success, and is said. One of several that
 * can't be removed holds up none of the others; the exit code is then its.
 */
export function remove(handles: readonly string[], flags: { readonly force?: boolean }): Command {
  return async ({ env, out, signal }) => {
    const daemon = localDaemon(env);
    const removed: string[] = [];
    const alreadyGone: string[] = [];
    const failed: { handle: string; error: DecoError }[] = [];
    for (const handle of handles) {
      try {
        const there = await removeOne(daemon, handle, { ...flags, signal });
        (there ? removed : alreadyGone).push(handle);
      } catch (thrown) {
        const error = DecoError.from(thrown);
        if (signal.aborted || handles.length === 1 || error.code === "not_running") throw thrown;
        failed.push({ handle, error });
      }
    }
    for (const { handle, error } of failed)
      out.note(`${handle}: ${printable(error.message)}\nfix: ${printable(error.fix)}`);
    const problems = failed.map(({ handle, error }) => ({ handle, ...error.toProblem() }));
    out.result({ removed, alreadyGone, failed: problems }, () =>
      [
        ...removed.map((handle) => `removed ${handle}`),
        ...alreadyGone.map((handle) => `${handle} was not there: already gone`),
        ...failed.map(({ handle }) => `${handle} stays`),
      ].join("\n"),
    );
    const [first] = failed;
    return first === undefined ? 0 : (first.error.info.exit ?? 1);
  };
}

/** @returns false when it was gone already */
async function removeOne(
  daemon: ApiTarget,
  handle: string,
  { force, signal }: { force?: boolean; signal: AbortSignal },
): Promise<boolean> {
  const path = `/v1/sandboxes/${encodeURIComponent(handle)}`;
  if (!(await isThere(daemon, path, signal))) return false;
  const query = force ? "?force=true" : "";
  await callApi(daemon, { method: "DELETE", path: `${path}${query}`, signal });
  return true;
}

async function isThere(daemon: ApiTarget, path: string, signal: AbortSignal): Promise<boolean> {
  try {
    await callApi(daemon, { path, signal });
    return true;
  } catch (thrown) {
    if (thrown instanceof DecoError && thrown.code === "sandbox_not_found") return false;
    throw thrown;
  }
}
