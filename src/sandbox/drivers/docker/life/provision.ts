import { sameOwner } from "../../../owner.ts";
import type { EnsureContext, SandboxInfo } from "../../../provider.ts";
import { isBrokenInside, reuseWait } from "../../../ready.ts";
import { Rollback } from "../../../rollback.ts";
import {
  linkRunDir,
  makeRunDir,
  readRecord,
  removeRunDir,
  renewRunDir,
  runDirOf,
  type SandboxRecord,
  sealRunDir,
  writeRecord,
} from "../../../run-dir.ts";
import { madeFrom, type ResolvedSpec, sameSpec, wantedSandbox } from "../../../sandbox-spec.ts";
import { Stages } from "../../../stages.ts";
import { createContainer, undoVolume } from "../container/create-container.ts";
import { type ContainerLook, ownerOf } from "../container/look.ts";
import { removeForced } from "../container/remove.ts";
import { startAndWait, waitUntilReady } from "../container/start-container.ts";
import { refuseTier } from "../container/tiers.ts";
import { refusedStatus } from "../engine/engine.ts";
import { findImage } from "../image/find-image.ts";
import { imageId } from "../image/local-image.ts";
import { type DockerSetup, type Job, look, newRecord, noteEngine } from "../job.ts";
import { LABELS, namesOf, WARM_ROLE } from "../names.ts";
import { choosePlace, hasLostPlace, restorePlace } from "../network/place.ts";
import { leaseSpare, orderOf } from "../warm/warm-lease.ts";
import { preflight } from "./preflight.ts";
import { firstHandle, removeSandbox } from "./remove-sandbox.ts";
import { checkWorkspaceSpec, settleWorkspace } from "./workspace.ts";

interface Order {
  readonly handle: string;
  readonly spec: ResolvedSpec;
  readonly context: EnsureContext;
}

/** Finds, starts again, or makes the container of a handle. Rolls back what it began. */
export async function ensureContainer(
  setup: DockerSetup,
  { handle, spec, context }: Order,
  signal: AbortSignal,
): Promise<SandboxInfo> {
  const wanted = wantedSandbox(spec, "docker", { egress: "open" });
  checkWorkspaceSpec(wanted);
  const own = namesOf(setup.instanceId, handle);
  const dir = runDirOf(setup.runRoot, "docker", handle);
  const stages = new Stages((stage) => context.onStage(stage), context.onProgress);
  const first: Job = { setup, handle, context, wanted, names: own, dir, stages, signal };
  const had = await look(first, signal);
  const known = await readRecord(dir);
  const job: Job = { ...first, ...volumeOf(first, had, known) };
  sameOwner(handle, had === undefined ? known?.owner : ownerOf(had, known).owner, context.owner);
  const found = await usable(job, had);
  if (found === undefined) return await setup.starts.run(signal, () => leaseOrMake(job));
  sameSpec(handle, specOf(job, found, known), wanted.hash);
  return await reuse(job, found);
}

/**
 * One that a daemon or an engine left half made has the name, but never ran: it makes room for what
 * is wanted now. Its volume stays.
 */
async function usable(job: Job, found: ContainerLook | undefined) {
  if (found === undefined || found.labels[LABELS.spec] === job.wanted.hash) return found;
  if (!["created", "dead"].includes(found.engineStatus)) return found;
  job.setup.log.info({ handle: job.handle }, "a half-made container has the name: removed");
  await removeForced(job.setup.engine, found.id, job.signal);
  return undefined;
}

/** One that was made ahead has in its labels what all leases of it share; the rest is in its record. */
function specOf(job: Job, found: ContainerLook, known: SandboxRecord | undefined) {
  const { [LABELS.spec]: spec, [LABELS.role]: role } = found.labels;
  if (role !== WARM_ROLE) return spec;
  return known?.specHash ?? (spec === madeFrom(job.wanted).hash ? job.wanted.hash : spec);
}

/** A sandbox that was made ahead keeps the volume that it was made with, whatever becomes of its container. */
function volumeOf(
  { setup, names }: Job,
  found: ContainerLook | undefined,
  known: SandboxRecord | undefined,
): Pick<Job, "names" | "madeAs"> {
  const madeAs = firstHandle(found, known?.extra);
  const first = madeAs === undefined ? names : namesOf(setup.instanceId, madeAs);
  const volume = found?.volume ?? first.volume;
  return { names: { ...names, volume }, ...(madeAs === undefined ? {} : { madeAs }) };
}

async function leaseOrMake(job: Job): Promise<SandboxInfo> {
  const record = await newRecord(job);
  await noteEngine(job.setup);
  refuseTier(job.wanted, record.extra["transport"] === "gateway" ? "gateway" : "socket");
  const { hasVolume } = await preflight(job);
  // What a workspace that lost its container holds is in no sandbox that was made ahead.
  const order = orderOf(job, record.extra["transport"]);
  const leased =
    hasVolume || order === undefined ? undefined : await leaseSpare(job, record, order);
  const info = leased ? await settleLease(job, leased) : await makeNew(job, { record, hasVolume });
  // One that could not be made is not made ahead, either.
  if (order !== undefined) job.setup.warm.use(order);
  return info;
}

async function settleLease(job: Job, leased: SandboxInfo): Promise<SandboxInfo> {
  await using rollback = new Rollback(job.setup.log);
  rollback.add("lease", (undo) => removeSandbox(job.setup, { handle: job.handle }, undo));
  await settleWorkspace(job);
  rollback.keep();
  return { ...leased, ...job.stages.result() };
}

/** Makes a container for nobody yet; what is its sandbox's own comes with the lease. */
export async function makeSpare(job: Job): Promise<SandboxInfo> {
  return await makeNew(job, { record: await newRecord(job), hasVolume: false });
}

async function makeNew(
  job: Job,
  { record, hasVolume }: { record: SandboxRecord; hasVolume: boolean },
): Promise<SandboxInfo> {
  const { setup, stages, dir } = job;
  const image = await stages.run("image", () => findImage(job));
  await using rollback = new Rollback(setup.log);
  await stages.run("create", async () => {
    // A workspace that lost its container is not ours to undo.
    if (!hasVolume) undoVolume(job, rollback);
    await removeRunDir(dir);
    rollback.add("run directory", () => removeRunDir(dir));
    await makeRunDir(dir, record);
    await writeRecord(dir, record);
    const port = await job.context.beforeStart?.(dir.run, setup.uid);
    await createInPlace(job, rollback, { image, record, modelPort: port?.modelPort });
  });
  const info = await startAndWait(job, record);
  if (job.spare !== true) await settleWorkspace(job);
  rollback.keep();
  return { ...info, ...stages.result() };
}

interface NewContainer {
  readonly image: string;
  readonly record: SandboxRecord;
  readonly modelPort: number | undefined;
}

async function createInPlace(job: Job, rollback: Rollback, o: NewContainer): Promise<void> {
  const place = await choosePlace(job, o.record, rollback);
  try {
    await createContainer(job, rollback, { ...o, place });
  } finally {
    if (place.kind === "pause") job.setup.pauses.settle(place.id);
  }
}

/** An existing sandbox: as it is when it runs, started again when it stopped or is broken. */
async function reuse(job: Job, found: ContainerLook): Promise<SandboxInfo> {
  const { setup, dir, signal, stages } = job;
  const record = await readRecord(dir);
  if (record !== undefined && found.status === "running") {
    const info = (await mustRestart(job, found)) ? undefined : await asItIs(job, record);
    if (info !== undefined) {
      await settleWorkspace(job);
      return info;
    }
    await stages.run("restart", () => kill(job, signal));
  }
  return await setup.starts.run(signal, () => startAgain(job, found, record));
}

/** A run that works there may need no network: it is left alone. */
async function mustRestart(job: Job, found: ContainerLook): Promise<boolean> {
  if (job.context.inUse?.() === true || !(await hasLostPlace(job, found))) return false;
  job.setup.log.warn({ handle: job.handle }, "the sandbox lost its network: restarted");
  return true;
}

/** Undefined when the engine says that it runs, but harnessd in it is not to be reached any more. */
async function asItIs(job: Job, record: SandboxRecord): Promise<SandboxInfo | undefined> {
  const { setup, dir, stages, context, signal } = job;
  if (!(await sealRunDir(dir))) return undefined;
  await context.beforeStart?.(dir.run, setup.uid);
  try {
    const wait = reuseWait(setup.readyTimeoutMs);
    return await stages.run("ready", () => waitUntilReady(job, record, wait));
  } catch (thrown) {
    signal.throwIfAborted();
    if (!isBrokenInside(thrown, context)) throw thrown;
    setup.log.warn({ err: thrown, handle: job.handle }, "harnessd does not answer: restarted");
    return undefined;
  }
}

/**
 * Its harnessd deleted the token, and left a socket that nobody listens on. Without a record (a
 * wiped run directory, a provisioning that an engine's end cut off) nobody can reach what may still
 * run: it gets a new token, and keeps its workspace.
 */
async function startAgain(
  job: Job,
  found: ContainerLook,
  known: SandboxRecord | undefined,
): Promise<SandboxInfo> {
  const { setup, dir, stages } = job;
  const { [LABELS.created]: createdAt, [LABELS.owner]: owner } = found.labels;
  const record = known ?? (await newRecord(job, { createdAt, owner }));
  const madeAs = firstHandle(found);
  await using rollback = new Rollback(setup.log);
  await stages.run("create", async () => {
    if (found.status === "running") await kill(job, job.signal);
    await renewRunDir(dir, record);
    await writeRecord(dir, record);
    // The engine mounts by the old path, which a wiped run root took along.
    if (madeAs !== undefined) await linkRunDir(runDirOf(setup.runRoot, "docker", madeAs), dir);
    const port = await job.context.beforeStart?.(dir.run, setup.uid);
    if (await restorePlace(job, found)) return;
    await makeAnew(job, rollback, { found, record, modelPort: port?.modelPort });
  });
  rollback.add("start", (signal) => kill(job, signal));
  const info = await startAndWait(job, record);
  await settleWorkspace(job);
  rollback.keep();
  return { ...info, ...stages.result() };
}

/** A container can't change its network: another one takes over name and workspace. */
async function makeAnew(
  job: Job,
  rollback: Rollback,
  o: Omit<NewContainer, "image"> & { found: ContainerLook },
): Promise<void> {
  const { setup, handle, signal } = job;
  setup.log.info({ handle }, "the network that it joined is gone: the container is made anew");
  const had = o.found.labels[LABELS.image] ?? "";
  const image = (await imageId(setup.engine, had, signal)) ? had : await findImage(job);
  await removeForced(setup.engine, o.found.id, signal);
  await createInPlace(job, rollback, { ...o, image });
}

async function kill({ setup, names }: Job, signal: AbortSignal): Promise<void> {
  try {
    await setup.engine.call("kill", (docker) => docker.getContainer(names.container).kill(), {
      signal,
    });
  } catch (thrown) {
    // Not running, or gone: what was wanted.
    if (refusedStatus(thrown) === undefined) throw thrown;
  }
}
