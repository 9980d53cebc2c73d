import { DecoError } from "../../protocol/errors.ts";
import type { TarEntry } from "../../protocol/tar-read.ts";
import { TAR_END_BYTES, tarHeader, tarPadding } from "../../protocol/tar-write.ts";
import type { HarnessEndpoint } from "../provider.ts";
import type { RunDir } from "../run-dir.ts";
import type { WantedSandbox } from "../sandbox-spec.ts";
import type { Stages } from "../stages.ts";
import { cloneInside } from "./clone.ts";
import { notedFilled, noteFilled, putArchive } from "./put-archive.ts";

export interface FillOptions {
  readonly wanted: WantedSandbox;
  readonly dir: RunDir;
  readonly endpoint: HarnessEndpoint;
  readonly stages: Stages;
  readonly signal: AbortSignal;
}

/**
 * Brings a ready sandbox's own files in, once in its life: the repository, then the template's
 * files where they are not there yet. Both can be done again after a daemon that died in between.
 *
 * @throws workspace_failed, archive_invalid
 */
export async function fillWorkspace(o: FillOptions): Promise<void> {
  const { wanted, dir, endpoint, stages, signal } = o;
  const { workspace, files } = wanted;
  const hasFiles = Object.keys(files).length > 0;
  if (workspace.mode !== "git" && !hasFiles) return;
  if ((await notedFilled(dir, "filled")) !== undefined) return;
  if (workspace.mode === "git") {
    await stages.run("clone", () => cloneInside(endpoint, workspace, signal));
  }
  if (hasFiles) {
    const body = tarOfTexts(files);
    await stages.run("files", () => putArchive(endpoint, { body, keep: true }, signal));
  }
  await noteFilled(dir, "filled", "");
}

/** @throws isolation_unavailable for what can't be brought in, before anything is made */
export function checkFilling({ workspace, files, egress }: WantedSandbox): void {
  if (workspace.mode === "git" && egress === "none") {
    throw new DecoError("isolation_unavailable", `there is no way to clone with egress "none"`, {
      fix: `Ask for egress "open" (tier 2 or higher), or send the files: workspace mode "archive".`,
    });
  }
  if (workspace.mode === "read_only" && Object.keys(files).length > 0) {
    throw new DecoError("isolation_unavailable", "a read_only workspace takes no template's files");
  }
}

function tarOfTexts(files: WantedSandbox["files"]): ReadableStream<Uint8Array> {
  const mtime = Math.floor(Date.now() / 1000);
  const parts = Object.entries(files).flatMap(([path, { text, mode }]): Uint8Array[] => {
    const bytes = new TextEncoder().encode(text);
    const size = bytes.length;
    const bits = Number.parseInt(mode ?? "0644", 8);
    const entry: TarEntry = { path, kind: "file", size, mode: bits, mtime, target: "" };
    return [tarHeader(entry), bytes, new Uint8Array(tarPadding(size))];
  });
  const whole = [...parts, new Uint8Array(TAR_END_BYTES)];
  return new ReadableStream<Uint8Array>({
    start(controller) {
      for (const part of whole) controller.enqueue(part);
      controller.close();
    },
  });
}
