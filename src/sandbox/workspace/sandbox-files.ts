import type { TarKind } from "../../protocol/tar-read.ts";
import type { TarTotals } from "../../protocol/tar-rules.ts";
import type { HarnessEndpoint } from "../provider.ts";
import type { RunDir } from "../run-dir.ts";
import {
  type ArchiveUpload,
  forgetFilled,
  notedFilled,
  noteFilled,
  putArchive,
} from "./put-archive.ts";

/** Which files of a workspace. */
export interface FileChoice {
  /** Below the workspace; empty for all of it. Checked: no `..`, not absolute. */
  readonly path: string;
  /** By path below the workspace; asked of files and links. All when absent. */
  readonly select?: (path: string) => boolean;
}

/** Files of sandboxes, as tars without compression. */
export interface SandboxFiles {
  /**
   * Puts a tar into the workspace of a running sandbox: what it brings replaces what has its name,
   * all else stays.
   *
   * @throws archive_invalid, body_too_large, workspace_failed, isolation_unavailable,
   * harness_unreachable, sandbox_not_found, sandbox_lost (it is stopped: ensure it first)
   */
  put(handle: string, upload: ArchiveUpload, signal: AbortSignal): Promise<TarTotals>;
  /**
   * What was chosen, running or stopped, each member named by its path below the workspace. What is
   * neither file, folder nor link is left out.
   *
   * @throws sandbox_not_found, file_not_found
   */
  read(
    handle: string,
    choice: FileChoice,
    signal: AbortSignal,
  ): Promise<ReadableStream<Uint8Array>>;
  /** Name of the last archive that got in whole (empty for one without); undefined: none. */
  lastArchive(handle: string): Promise<string | undefined>;
}

/** What is the same in every provider: harnessd unpacks, a note beside the record says so. */
export function sandboxFiles(o: {
  readonly dirOf: (handle: string) => RunDir;
  readonly endpoint: (handle: string, signal: AbortSignal) => Promise<HarnessEndpoint>;
  readonly read: SandboxFiles["read"];
}): SandboxFiles {
  return {
    async put(handle, upload, signal) {
      const endpoint = await o.endpoint(handle, signal);
      const dir = o.dirOf(handle);
      await forgetFilled(dir, "archive");
      const totals = await putArchive(endpoint, upload, signal);
      await noteFilled(dir, "archive", upload.name ?? "");
      return totals;
    },
    read: o.read,
    lastArchive: (handle) => notedFilled(o.dirOf(handle), "archive"),
  };
}

/** Folders only where they were chosen themselves: files bring their own. */
export function isChosen({ path, select }: FileChoice, candidate: string, kind: TarKind): boolean {
  const below = path === "" || candidate === path || candidate.startsWith(`${path}/`);
  if (!below || candidate === "") return false;
  return select === undefined || (kind !== "directory" && select(candidate));
}
