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
      if (sandboxes.length === 0) return "no sandboxes";
      const columns = ["handle", "provider", "status", "startedAt", "image"];
      const rows = sandboxes.map((row) => columns.map((name) => printable(textOf(row[name]))));
      return table(["HANDLE", "PROVIDER", "STATUS", "STARTED", "IMAGE"], rows);
    });
    return 0;
  };
}

/** `deco sandbox rm HANDLE… [--force]`. Already gone is success, and is said. */
export function remove(handles: readonly string[], flags: { readonly force?: boolean }): Command {
  return async ({ env, out, signal }) => {
    const daemon = localDaemon(env);
    const removed: string[] = [];
    const alreadyGone: string[] = [];
    for (const handle of handles) {
      const path = `/v1/sandboxes/${encodeURIComponent(handle)}`;
      if (await isThere(daemon, path, signal)) {
        const query = flags.force ? "?force=true" : "";
        await callApi(daemon, { method: "DELETE", path: `${path}${query}`, signal });
        removed.push(handle);
      } else alreadyGone.push(handle);
    }
    out.result({ removed, alreadyGone }, () =>
      [
        ...removed.map((handle) => `removed ${handle}`),
        ...alreadyGone.map((handle) => `${handle} was not there: already gone`),
      ].join("\n"),
    );
    return 0;
  };
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
