import type { RunEvent } from "../protocol/run-events.ts";
import type { Command } from "./command.ts";
import { findHub } from "./home.ts";
import { callApi, followRun } from "./hub-client.ts";
import { printable } from "./output.ts";
import { printEvent } from "./print-event.ts";
import { asRecord, recordsOf, textOf } from "./record.ts";
import { exitCodeOf } from "./run.ts";
import { table } from "./text-table.ts";

interface HubFlag {
  readonly hub?: string;
}

/** `deco runs ls`. */
export function list(flags: HubFlag): Command {
  return async ({ env, out, signal }) => {
    const target = await findHub(env, flags.hub);
    const runs = recordsOf(await callApi(target, { path: "/api/runs", signal }), "runs");
    out.result({ runs }, () => {
      const rows = runs.map((run) => [
        text(run["runId"]),
        text(run["status"]),
        text(run["harness"]),
        text(run["createdAt"]),
        firstLine(text(run["prompt"])),
      ]);
      return rows.length === 0
        ? "no runs"
        : table(["RUN", "STATUS", "HARNESS", "CREATED", "PROMPT"], rows);
    });
    return 0;
  };
}

/** `deco runs show ID`. */
export function show(runId: string, flags: HubFlag): Command {
  return async ({ env, out, signal }) => {
    const target = await findHub(env, flags.hub);
    const answer = await callApi(target, { path: pathOf(runId), signal });
    out.result(asRecord(answer), () => printable(JSON.stringify(answer, null, 2)));
    return 0;
  };
}

/** `deco runs logs ID [-f]`: what is there now, or with -f all of it to the end. */
export function logs(runId: string, flags: HubFlag & { readonly follow?: boolean }): Command {
  return async ({ env, out, signal }) => {
    const target = await findHub(env, flags.hub);
    const state = asRecord(await callApi(target, { path: pathOf(runId), signal }));
    const until = flags.follow ? Number.POSITIVE_INFINITY : Number(state["lastSeq"] ?? 0);
    if (until < 1) return 0;
    let last: RunEvent | undefined;
    for await (const event of followRun(target, { runId, signal })) {
      last = event;
      printEvent(out, event);
      if (event.seq >= until) break;
    }
    return flags.follow ? exitCodeOf(last) : 0;
  };
}

/** `deco runs cancel ID`: durable; delivered when the link is back. */
export function cancel(runId: string, flags: HubFlag): Command {
  return async ({ env, out, signal }) => {
    const target = await findHub(env, flags.hub);
    const call = { method: "POST", path: `${pathOf(runId)}/cancel`, body: {}, signal };
    const answer = await callApi(target, call);
    out.result({ runId, ...asRecord(answer) }, () => `cancelling ${runId}`);
    return 0;
  };
}

function pathOf(runId: string): string {
  return `/api/runs/${encodeURIComponent(runId)}`;
}

function text(value: unknown): string {
  return printable(textOf(value));
}

function firstLine(value: string): string {
  const line = value.split("\n", 1)[0] ?? "";
  return line.length > 60 ? `${line.slice(0, 60)}…` : line;
}
