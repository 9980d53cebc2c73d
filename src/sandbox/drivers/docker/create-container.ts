import { DecoError } from "../../../protocol/errors.ts";
import { type ImageName, recipe } from "../../images/recipes.ts";
import type { Rollback } from "../../rollback.ts";
import type { SandboxRecord } from "../../run-dir.ts";
import { ensureImage, imageId } from "./build-image.ts";
import { containerOptions } from "./container-options.ts";
import { type DockerSetup, type Job, look } from "./job.ts";
import { hostsFileOf, joinThread, type Place } from "./place.ts";
import { removeForced, removeVolume } from "./remove.ts";
import { tierFacts } from "./tiers.ts";

/** The wanted image's tag, which is on this machine then. Never asks a registry. */
export async function findImage({ setup, wanted, context, signal }: Job): Promise<string> {
  const { engine, cacheDir, log } = setup;
  if (wanted.image === undefined) {
    const image = context.harness === "claude-code" ? "claude-code" : "harnessd";
    const known = setup.seen.tags.get(image);
    if (known !== undefined && (await imageId(engine, known, signal))) return known;
    const onProgress = (line: string) => log.debug({ image, line }, "image build");
    const { tag } = await ensureImage(image, { engine, cacheDir, signal, onProgress });
    setup.seen.tags.set(image, tag);
    return tag;
  }
  if ((await imageId(engine, wanted.image, signal)) !== undefined) return wanted.image;
  const fix = `Run \`docker pull ${wanted.image}\`, or \`deco image build\` for ours.`;
  throw new DecoError("image_missing", `no image ${wanted.image} on this machine`, { fix });
}

/** An image for pauses: ours, if it is here. Builds nothing. */
export async function findPauseImage(
  { engine, cacheDir, seen }: Pick<DockerSetup, "engine" | "cacheDir" | "seen">,
  signal: AbortSignal,
): Promise<string | undefined> {
  // Where it can't be built it can't be named either.
  const tag = seen.tags.get("harnessd") ?? (await tagOf("harnessd", cacheDir, signal));
  return tag !== undefined && (await imageId(engine, tag, signal)) ? tag : undefined;
}

async function tagOf(image: ImageName, cacheDir: string, signal: AbortSignal) {
  return await recipe(image, cacheDir, signal).then(
    ({ tag }) => tag,
    () => undefined,
  );
}

/** Removes the sandbox's volume when a later step fails. */
export function undoVolume({ setup, names }: Job, rollback: Rollback): void {
  rollback.add("volume", (undo) => removeVolume(setup.engine, names.volume, undo));
}

/** Creates the container, which makes its volume if there is none; undone when a later step fails. */
export async function createContainer(
  job: Job,
  rollback: Rollback,
  o: {
    image: string;
    record: SandboxRecord;
    modelPort: number | undefined;
    place: Place;
  },
): Promise<void> {
  const { setup, names, signal } = job;
  const tier = await tierFacts({
    tier: job.wanted.tier,
    uid: setup.uid,
    engineSocket: socketOf(setup.engine.address),
  });
  const options = containerOptions({
    names,
    handle: job.handle,
    instanceId: setup.instanceId,
    wanted: job.wanted,
    imageTag: o.image,
    runDir: job.dir.run,
    createdAt: o.record.createdAt,
    thread: job.context.thread,
    harness: job.context.harness,
    modelPort: o.modelPort,
    place: o.place,
    hostsFile: hostsFileOf(job.dir),
    gateway: o.record.extra["transport"] === "gateway",
    tier,
  });
  // Before the call: one that was cut off may have made it all the same.
  rollback.add("container", (undo) => forceRemove(job, undo));
  await setup.engine.call("create a container", (docker) => docker.createContainer(options), {
    signal,
    deadlineMs: 60_000,
  });
  await joinSecond(job, rollback, o.place);
}

/** A second network can be joined only by a container that is there. */
async function joinSecond(job: Job, rollback: Rollback, place: Place): Promise<void> {
  const { wanted, setup, names } = job;
  if (wanted.threadNetwork === undefined || place.kind === "thread") return;
  const { key } = wanted.threadNetwork;
  rollback.add("network of the thread", (undo) => setup.threads.removeIfUnused(key, undo));
  await joinThread(job, names.container);
}

/** The engine's socket as its own host names it: in a VM that is the usual one. */
function socketOf(address: string): string {
  const path = address.replace(/^unix:\/\//, "");
  return path.startsWith("/") ? path : "/var/run/docker.sock";
}

/** Also waits out an engine that is still busy with a create which we gave up. */
async function forceRemove(job: Job, signal: AbortSignal): Promise<void> {
  const found = await look(job, signal);
  if (found !== undefined) await removeForced(job.setup.engine, found.id, signal);
}
