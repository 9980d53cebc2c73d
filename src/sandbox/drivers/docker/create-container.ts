import { DecoError } from "../../../protocol/errors.ts";
import type { Rollback } from "../../rollback.ts";
import type { SandboxRecord } from "../../run-dir.ts";
import { ensureImage, imageId } from "./build-image.ts";
import { containerOptions } from "./container-options.ts";
import { orMissing } from "./engine.ts";
import { type Job, look } from "./job.ts";

/** The wanted image's tag, which is on this machine then. Never asks a registry. */
export async function findImage({ setup, wanted, context, signal }: Job): Promise<string> {
  const { engine, cacheDir, log } = setup;
  if (wanted.image === undefined) {
    const image = context.harness === "claude-code" ? "claude-code" : "harnessd";
    const onProgress = (line: string) => log.debug({ image, line }, "image build");
    return (await ensureImage(image, { engine, cacheDir, signal, onProgress })).tag;
  }
  if ((await imageId(engine, wanted.image, signal)) !== undefined) return wanted.image;
  const fix = `Run \`docker pull ${wanted.image}\`, or \`deco image build\` for ours.`;
  throw new DecoError("image_missing", `no image ${wanted.image} on this machine`, { fix });
}

/** Creates the container; its volume comes with it. Both are undone when a later step fails. */
export async function createContainer(
  job: Job,
  rollback: Rollback,
  o: {
    image: string;
    record: SandboxRecord;
    modelPort: number | undefined;
    network: string;
  },
): Promise<void> {
  const { setup, names, signal } = job;
  const options = containerOptions({
    names,
    handle: job.handle,
    instanceId: setup.instanceId,
    wanted: job.wanted,
    imageTag: o.image,
    runDir: job.dir.run,
    uid: setup.uid,
    createdAt: o.record.createdAt,
    thread: job.context.thread,
    harness: job.context.harness,
    modelPort: o.modelPort,
    network: o.network,
    gateway: o.record.extra["transport"] === "gateway",
  });
  rollback.add("volume", async (undo) => {
    const removal = setup.engine.call(
      "remove a volume",
      (docker) => docker.getVolume(names.volume).remove(),
      { signal: undo },
    );
    await orMissing(removal);
  });
  // Before the call: one that was cut off may have made it all the same.
  rollback.add("container", (undo) => forceRemove(job, undo));
  await setup.engine.call("create a container", (docker) => docker.createContainer(options), {
    signal,
    deadlineMs: 60_000,
  });
}

/** Also waits out an engine that is still busy with a create which we gave up. */
async function forceRemove(job: Job, signal: AbortSignal): Promise<void> {
  const { engine } = job.setup;
  const found = await look(job, signal);
  if (found === undefined) return;
  await orMissing(
    engine.call(
      "remove a container",
      (docker) => docker.getContainer(found.id).remove({ force: true, v: true }),
      { signal },
    ),
  );
}
