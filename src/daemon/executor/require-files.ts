import { DecoError } from "../../protocol/errors.ts";
import { TarReader } from "../../protocol/tar-read.ts";
import { configMissing } from "../../sandbox/config-missing.ts";
import type { SandboxProvider } from "../../sandbox/provider.ts";
import type { ResolvedSpec } from "../../sandbox/sandbox-spec.ts";

/**
 * Workspaces that are filled after the start are looked into when they are: a file that the template
 * requires and neither clone nor archive brought fails the run, before its harness is told of it.
 * Other modes are looked into before the start.
 *
 * @throws config_missing
 */
export async function requireFiles(o: {
  readonly provider: SandboxProvider;
  readonly handle: string;
  readonly spec: ResolvedSpec;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { provider, handle, spec, signal } = o;
  const { mode } = spec.workspace ?? {};
  const { requires, files: own = {} } = spec.facts ?? {};
  if ((mode !== "git" && mode !== "archive") || provider.files === undefined) return;
  const missing: string[] = [];
  for (const path of requires?.files ?? []) {
    if (Object.hasOwn(own, path)) continue;
    const tar = provider.files.read(handle, { path }, signal);
    if (!(await holdsAnything(tar))) missing.push(path);
  }
  if (missing.length > 0) throw configMissing(missing);
}

/** Whether a tar has a file or a link; no more of it is read than that takes. */
async function holdsAnything(tar: Promise<ReadableStream<Uint8Array>>): Promise<boolean> {
  let found = false;
  const reader = new TarReader({
    entry: ({ kind }) => {
      found ||= kind !== "directory";
    },
  });
  try {
    for await (const bytes of await tar) {
      reader.push(bytes);
      if (found) break;
    }
  } catch (thrown) {
    if (DecoError.from(thrown).code !== "file_not_found") throw thrown;
  }
  return found;
}
