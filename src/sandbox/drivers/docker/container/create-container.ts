import { recipe } from "../../../images/recipes.ts";
import { hostPlatform } from "../../../images/target.ts";
import type { Rollback } from "../../../rollback.ts";
import type { SandboxRecord } from "../../../run-dir.ts";
import { refusedStatus } from "../engine/engine.ts";
import { inPodmanWords } from "../engine/podman.ts";
import { imageId } from "../image/local-image.ts";
import { type DockerSetup, type Job, look } from "../job.ts";
import { hostsFileOf, joinThread, type Place } from "../network/place.ts";
import { refusedOrder } from "./advice.ts";
import { containerOptions } from "./container-options.ts";
import { removeForced, removeVolume } from "./remove.ts";
import { tierFacts } from "./tiers.ts";

/** An image for pauses: ours, if it is here. Builds nothing. */
export async function findPauseImage(
  { engine, cacheDir, seen }: Pick<DockerSetup, "engine" | "cacheDir" | "seen">,
  signal: AbortSignal,
): Promise<string | undefined> {
  // It starts none without limits of its own, and gains nothing by them.
  if (seen.podman === true) return undefined;
  // Where it can't be built it can't be named either.
  const tag = seen.tags.get(`harnessd ${hostPlatform()}`) ?? (await tagOf(cacheDir, signal));
  return tag !== undefined && (await imageId(engine, tag, signal)) ? tag : undefined;
}

async function tagOf(cacheDir: string, signal: AbortSignal) {
  return await recipe("harnessd", { cacheDir, signal }).then(
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
    unconfined: setup.seen.unconfined === true,
  });
  const wanted = containerOptions({
    names,
    handle: job.handle,
    spare: job.spare === true,
    instanceId: setup.instanceId,
    wanted: job.wanted,
    imageTag: o.image,
    imageDigest: setup.seen.digests.get(o.image),
    runDir: job.dir.run,
    createdAt: o.record.createdAt,
    thread: job.context.thread,
    owner: o.record.owner,
    harness: job.context.harness,
    modelPort: o.modelPort,
    place: o.place,
    hostsFile: hostsFileOf(job.dir),
    gateway: o.record.extra["transport"] === "gateway",
    tier,
  });
  const options = setup.seen.podman === true ? await inPodmanWords(wanted) : wanted;
  // Before the call: one that was cut off may have made it all the same.
  rollback.add("container", (undo) => forceRemove(job, undo));
  const create = () =>
    setup.engine.call("create a container", (docker) => docker.createContainer(options), {
      signal,
      deadlineMs: 60_000,
    });
  try {
    await create();
  } catch (thrown) {
    if (refusedStatus(thrown) !== 409) throw refusedOrder(thrown, job.wanted);
    // There was none a moment ago: an engine that was slow has now done what was given up before.
    await forceRemove(job, signal);
    await create();
  }
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
