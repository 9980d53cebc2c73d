import { DecoError } from "../../../protocol/errors.ts";
import type { EnsureContext, SandboxInfo } from "../../provider.ts";
import { isBrokenInside, reuseWait } from "../../ready.ts";
import { Rollback } from "../../rollback.ts";
import {
  makeRunDir,
  readRecord,
  removeRunDir,
  renewRunDir,
  runDirOf,
  type SandboxRecord,
  sealRunDir,
  writeRecord,
} from "../../run-dir.ts";
import {
  type ResolvedSpec,
  sameSpec,
  type WantedSandbox,
  wantedSandbox,
} from "../../sandbox-spec.ts";
import { Stages } from "../../stages.ts";
import { createContainer, findImage } from "./create-container.ts";
import { refusedStatus } from "./engine.ts";
import { type DockerSetup, type Job, look, newRecord } from "./job.ts";
import type { ContainerLook } from "./look.ts";
import { LABELS, namesOf } from "./names.ts";
import { startAndWait, waitUntilReady } from "./start-container.ts";

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
  refuseUnbuilt(wanted);
  const names = namesOf(setup.instanceId, handle);
  const dir = runDirOf(setup.runRoot, "docker", handle);
  const stages = new Stages((stage) => context.onStage(stage));
  const job: Job = { setup, handle, context, wanted, names, dir, stages, signal };
  const found = await look(job, signal);
  if (found === undefined) return await setup.starts.run(signal, () => makeNew(job));
  sameSpec(handle, found.labels[LABELS.spec], wanted.hash);
  return await reuse(job, found);
}

/** What is not built yet in this driver; each line goes with the part that honours it. */
function refuseUnbuilt({ tier, workspace, ports, threadNetwork, files }: WantedSandbox): void {
  const missing = [
    ...(tier === 2 ? [] : [`tier ${tier}`]),
    ...(workspace.mode === "none" ? [] : [`workspace mode "${workspace.mode}"`]),
    ...(ports.length === 0 ? [] : ["ports"]),
    ...(threadNetwork === undefined ? [] : ["network of a thread"]),
    ...(Object.keys(files).length === 0 ? [] : ["files"]),
  ];
  if (missing.length === 0) return;
  const what = missing.join(", ");
  throw new DecoError("isolation_unavailable", `the docker provider has no ${what} yet`);
}

async function makeNew(job: Job): Promise<SandboxInfo> {
  const { setup, stages, dir } = job;
  const image = await stages.run("image", () => findImage(job));
  await using rollback = new Rollback(setup.log);
  const record = await newRecord(job, undefined);
  await stages.run("create", async () => {
    // What an earlier life left without a container is of no use to anyone.
    await removeRunDir(dir);
    rollback.add("run directory", () => removeRunDir(dir));
    await makeRunDir(dir, record);
    await writeRecord(dir, record);
    const port = await job.context.beforeStart?.(dir.run, setup.uid);
    const o = { image, record, modelPort: port?.modelPort };
    await inNetwork(job, rollback, (network) => createContainer(job, rollback, { ...o, network }));
  });
  const info = await startAndWait(job, record);
  rollback.keep();
  return { ...info, ...stages.result() };
}

/** With the instance's network, where the sandbox has one. */
async function inNetwork(
  { setup, wanted, signal }: Job,
  rollback: Rollback,
  work: (network: string) => Promise<void>,
): Promise<void> {
  if (wanted.egress !== "open") return await work("none");
  rollback.add("network", (undo) => setup.network.removeIfUnused(undo));
  await setup.network.use(signal, work);
}

/** An existing sandbox: as it is when it runs, started again when it stopped or is broken. */
async function reuse(job: Job, found: ContainerLook): Promise<SandboxInfo> {
  const { setup, dir, signal, stages } = job;
  const record = await readRecord(dir);
  if (record !== undefined && found.status === "running") {
    const info = await asItIs(job, record);
    if (info !== undefined) return info;
    await stages.run("restart", () => kill(job, signal));
  }
  return await setup.starts.run(signal, () => startAgain(job, found, record));
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
  const record = known ?? (await newRecord(job, found.labels[LABELS.created]));
  await using rollback = new Rollback(setup.log);
  await stages.run("create", async () => {
    if (found.status === "running") await kill(job, job.signal);
    await renewRunDir(dir, record);
    await writeRecord(dir, record);
    await job.context.beforeStart?.(dir.run, setup.uid);
    await inNetwork(job, rollback, () => setup.network.rejoin(found.id, job.signal));
  });
  rollback.add("start", (signal) => kill(job, signal));
  const info = await startAndWait(job, record);
  rollback.keep();
  return { ...info, ...stages.result() };
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
