import { DecoError } from "../../protocol/errors.ts";
import type { SandboxInfo } from "../../sandbox/provider.ts";
import type { ResolvedSpec } from "../../sandbox/sandbox-spec.ts";
import { awaitArchive } from "./await-archive.ts";
import { ownerOf } from "./handle-of.ts";
import type { LiveRun } from "./live-run.ts";
import type { ExecutorParts } from "./parts.ts";
import { requireFiles } from "./require-files.ts";
import { LegError } from "./run-failure.ts";

/** Makes or finds the run's sandbox, telling each stage; then says where the run is. */
export async function provision(parts: ExecutorParts, live: LiveRun): Promise<SandboxInfo> {
  const { journal, sandboxes, now } = parts;
  const { dispatch, provider, handle, spec, signal } = live;
  const { runId, attempt, thread, harness } = dispatch;
  const since = now();
  const tell = (payload: { stage: string; handle?: string; ms?: number; progress?: number }) => {
    journal.append(runId, attempt, [{ type: "sandbox.provisioning", payload }]);
  };
  const info = await sandboxes.ensure({
    provider,
    handle,
    owner: ownerOf(dispatch),
    spec: sandboxSpec(spec),
    harness,
    ...(thread === undefined ? {} : { thread }),
    onStage: (stage) => tell({ stage }),
    onProgress: (told) => tell({ ...told }),
    signal,
  });
  if (info.harnesses.length > 0 && !info.harnesses.includes(harness)) {
    const offered = info.harnesses.join(", ");
    const detail = `sandbox ${handle} can run ${offered}, not ${harness}`;
    throw new LegError("sandbox", new DecoError("harness_missing", detail));
  }
  // A confined process has no image.
  const { image = null, readyMs = now() - since, stages = {}, id, confined } = info;
  const ready = { handle, provider: provider.name, image, readyMs, stages, id, confined };
  journal.append(runId, attempt, [{ type: "sandbox.ready", payload: ready }]);
  await awaitArchive({
    provider,
    handle,
    spec,
    say: () => tell({ stage: "archive", handle }),
    signal,
  });
  await requireFiles({ provider, handle, spec, signal });
  return info;
}

/** The run's environment goes to its harness: it must not make the sandbox another one. */
function sandboxSpec({ env: _env, ...spec }: ResolvedSpec): ResolvedSpec {
  return spec;
}
