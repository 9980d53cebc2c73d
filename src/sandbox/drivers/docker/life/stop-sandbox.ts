import { lookAt } from "../container/look.ts";
import { refusedStatus } from "../engine/engine.ts";
import { type DockerSetup } from "../job.ts";
import { namesOf } from "../names.ts";
import { pauseOf } from "../network/pause.ts";

/** Ends the container and its pause; both stay, and are started again with the next ensure. */
export async function stopSandbox(
  { engine, instanceId }: Pick<DockerSetup, "engine" | "instanceId">,
  handle: string,
  signal: AbortSignal,
): Promise<void> {
  const name = namesOf(instanceId, handle).container;
  const found = await lookAt(engine, { name, instanceId, signal });
  if (found?.status !== "running") return;
  const pause = pauseOf(found.networkMode);
  // The pause last: it is the other's network.
  for (const id of [found.id, pause]) {
    if (id === undefined) continue;
    try {
      await engine.call("end a container", (docker) => docker.getContainer(id).kill(), { signal });
    } catch (thrown) {
      // Not running, or gone: what was wanted.
      if (refusedStatus(thrown) === undefined) throw thrown;
    }
  }
}
