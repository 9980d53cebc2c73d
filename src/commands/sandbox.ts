import type { Command } from "./command.ts";
import { localDaemon } from "./home.ts";
import { callApi } from "./hub-client.ts";
import { printable } from "./output.ts";
import { recordsOf, textOf } from "./record.ts";
import { table } from "./text-table.ts";

/** `deco sandbox ls`, asked of the local daemon. */
export function list(): Command {
  return async ({ env, out, signal }) => {
    const answer = await callApi(localDaemon(env), { path: "/v1/sandboxes", signal });
    const sandboxes = recordsOf(answer, "sandboxes");
    out.result({ sandboxes }, () => {
      if (sandboxes.length === 0) return "no sandboxes";
      const columns = ["handle", "provider", "status", "startedAt", "image"];
      const rows = sandboxes.map((row) => columns.map((name) => printable(textOf(row[name]))));
      return table(["HANDLE", "PROVIDER", "STATUS", "STARTED", "IMAGE"], rows);
    });
    return 0;
  };
}

/** `deco sandbox rm HANDLE… [--force]`. Already gone is success. */
export function remove(handles: readonly string[], flags: { readonly force?: boolean }): Command {
  return async ({ env, out, signal }) => {
    for (const handle of handles) {
      const query = flags.force ? "?force=true" : "";
      const path = `/v1/sandboxes/${encodeURIComponent(handle)}${query}`;
      await callApi(localDaemon(env), { method: "DELETE", path, signal });
    }
    out.result({ removed: handles }, () => handles.map((handle) => `removed ${handle}`).join("\n"));
    return 0;
  };
}
