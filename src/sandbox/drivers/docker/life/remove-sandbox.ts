import { readRecord, removeRunDir, runDirOf } from "../../../run-dir.ts";
import { type ContainerLook, lookAt } from "../container/look.ts";
import { removeForced, removeVolume } from "../container/remove.ts";
import type { DockerSetup } from "../job.ts";
import { LABELS, namesOf, networkOf, WARM_ROLE } from "../names.ts";
import { pauseOf } from "../network/pause.ts";

type Setup = Pick<DockerSetup, "engine" | "instanceId" | "runRoot" | "threads">;

/**
 * The sandbox with its pause; what it kept on disk only when both are gone.
 *
 * @param o.id of its container, where its name may not be the handle's yet, or any more
 */
export async function removeSandbox(
  setup: Setup,
  o: { handle: string; id?: string },
  signal: AbortSignal,
): Promise<void> {
  const { engine, instanceId, runRoot } = setup;
  const { container, volume } = namesOf(instanceId, o.handle);
  const found = await lookAt(engine, { name: o.id ?? container, instanceId, signal });
  const dir = runDirOf(runRoot, "docker", o.handle);
  const first = firstHandle(found, (await readRecord(dir))?.extra);
  const pause = pauseOf(found?.networkMode ?? "");
  const gone = [found?.id, pause].filter((id) => id !== undefined);
  await Promise.all(gone.map((id) => removeForced(engine, id, signal)));
  const volumes = new Set([volume]);
  const dirs = [dir];
  if (found?.volume?.startsWith(`${networkOf(instanceId)}-`) === true) volumes.add(found.volume);
  if (first !== undefined) {
    volumes.add(namesOf(instanceId, first).volume);
    dirs.push(runDirOf(runRoot, "docker", first));
  }
  await Promise.all([...volumes].map((name) => removeVolume(engine, name, signal)));
  await Promise.all(dirs.map(removeRunDir));
  const thread = found?.labels[LABELS.network];
  if (thread !== undefined) await setup.threads.removeIfUnused(thread, signal);
}

/** The handle that a sandbox was made ahead with; undefined when it was made for its own. */
export function firstHandle(
  found: ContainerLook | undefined,
  extra: Readonly<Record<string, unknown>> = {},
): string | undefined {
  if (found?.labels[LABELS.role] === WARM_ROLE) return found.labels[LABELS.handle];
  return typeof extra["madeAs"] === "string" ? extra["madeAs"] : undefined;
}
