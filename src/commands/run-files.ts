import { DecoError } from "../protocol/errors.ts";
import type { RunEvent } from "../protocol/run-events.ts";
import type { CommandContext } from "./command.ts";
import { fetchInto } from "./fetch-into.ts";
import { type ApiTarget, callApi, callBytes } from "./hub-client.ts";
import { printable } from "./output.ts";
import { asRecord, textOf } from "./record.ts";
import { syncFolder } from "./sync-folder.ts";

/** Files of one run: sent when it waits for them, fetched when it has ended. */
export interface RunFiles {
  /**
   * Looks at each event of the run; sends the folder when the sandbox is there to take it, and
   * cancels the run when that fails.
   */
  onEvent(event: RunEvent): Promise<void>;
  /** After the terminal event. @throws file_not_found when nothing matched */
  fetch(): Promise<void>;
}

export interface RunFilesOptions {
  readonly context: CommandContext;
  readonly target: ApiTarget;
  readonly runId: string;
  /** Name of the upload that the run waits for. */
  readonly ref: string;
  readonly sync?: string | undefined;
  readonly fetch: readonly string[];
}

/** Through the hub by the run, on this machine by the sandbox. */
export function runFiles(options: RunFilesOptions): RunFiles {
  const { context, target, runId, ref, sync } = options;
  let handle: string | undefined;
  const base = () =>
    target.socketPath === undefined
      ? `/api/runs/${encodeURIComponent(runId)}`
      : `/v1/sandboxes/${encodeURIComponent(handle ?? "-")}`;
  const send = async (dir: string) => {
    const { out, signal } = context;
    const { tar, byGit } = await syncFolder(dir, { note: (line) => out.note(line), signal });
    out.note(out.dim(`  sending ${dir}${byGit ? ", without what git ignores" : ""}`));
    const path = `${base()}/archive?ref=${ref}`;
    const answer = asRecord(await callApi(target, { method: "PUT", path, tar, signal }));
    const said = `  sent ${textOf(answer["files"])} files, ${textOf(answer["bytes"])} bytes`;
    out.note(out.dim(printable(said)));
  };
  /** It would wait for files that nobody sends. */
  const giveUp = async (thrown: unknown) => {
    const local = target.socketPath !== undefined;
    const path = `${local ? "/v1" : "/api"}/runs/${encodeURIComponent(runId)}/cancel`;
    const { signal } = new AbortController();
    const body = local ? { attempt: 1 } : {};
    await callApi(target, { method: "POST", path, body, signal }).catch(() => undefined);
    throw thrown;
  };
  return {
    async onEvent({ type, payload }) {
      if (type === "sandbox.ready" && typeof payload["handle"] === "string") {
        handle = payload["handle"];
      }
      const waits = type === "sandbox.provisioning" && payload["stage"] === "archive";
      if (waits && payload["ms"] === undefined && sync !== undefined) {
        await send(sync).catch(giveUp);
      }
    },
    async fetch() {
      if (options.fetch.length > 0) await fetchFiles(options, `${base()}/archive`);
    },
  };
}

async function fetchFiles(
  { context, target, sync, fetch }: RunFilesOptions,
  path: string,
): Promise<void> {
  const { out } = context;
  const query = fetch.map((glob) => `match=${encodeURIComponent(glob)}`).join("&");
  // A signal ended the run; what it left is wanted all the same.
  const { signal } = new AbortController();
  const answer = await callBytes(target, { path: `${path}?${query}`, signal });
  const into = sync ?? ".";
  const note = (line: string) => out.note(line);
  const { files, bytes } = await fetchInto(into, answer.body, { globs: fetch, note });
  if (files === 0) {
    throw new DecoError("file_not_found", `nothing in the workspace matches ${fetch.join(", ")}`);
  }
  out.note(out.dim(`  fetched ${files} files, ${bytes} bytes, into ${into}`));
}
