import { chown, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DecoError } from "../../../protocol/errors.ts";
import type { SandboxSpec } from "../../../protocol/messages.ts";
import type { EnsureContext, HarnessEndpoint, SandboxInfo } from "../../provider.ts";
import { awaitReady } from "../../ready.ts";
import { Rollback } from "../../rollback.ts";
import {
  makeRunDir,
  newToken,
  type RunDir,
  readRecord,
  removeRunDir,
  runDirOf,
  type SandboxRecord,
  writeRecord,
} from "../../run-dir.ts";
import { sameSpec, type WantedSandbox, wantedSandbox } from "../../sandbox-spec.ts";
import type { Semaphore } from "../../semaphore.ts";
import { Stages } from "../../stages.ts";
import { ensureImage, imageId } from "./build-image.ts";
import { containerOptions } from "./container-options.ts";
import type { DockerProviderOptions } from "./docker-provider.ts";
import { type Engine, orMissing, refusedStatus } from "./engine.ts";
import { type ContainerLook, containerLogs, infoOf, lookAt } from "./look.ts";
import { LABELS, type Names, namesOf } from "./names.ts";
import { type ModelTransport, probeDocker } from "./probe.ts";
import { topProcesses } from "./processes.ts";

export interface DockerSetup extends DockerProviderOptions {
  readonly engine: Engine;
  readonly uid: number;
  readonly starts: Semaphore;
  readonly readyTimeoutMs: number;
}

interface Order {
  readonly handle: string;
  readonly spec: SandboxSpec;
  readonly context: EnsureContext;
}

/** One provisioning: everything that its steps share. */
interface Job {
  readonly setup: DockerSetup;
  readonly handle: string;
  readonly context: EnsureContext;
  readonly wanted: WantedSandbox;
  readonly names: Names;
  readonly dir: RunDir;
  readonly stages: Stages;
  readonly signal: AbortSignal;
}

/** Finds, starts again, or makes the container of a handle. Rolls back what it began. */
export async function ensureContainer(
  setup: DockerSetup,
  { handle, spec, context }: Order,
  signal: AbortSignal,
): Promise<SandboxInfo> {
  const wanted = wantedSandbox(spec, "docker", { egress: "open" });
  const names = namesOf(setup.instanceId, handle);
  const dir = runDirOf(setup.runRoot, handle);
  const stages = new Stages((stage) => context.onStage(stage));
  const job: Job = { setup, handle, context, wanted, names, dir, stages, signal };
  const found = await look(job, signal);
  if (found === undefined) return await setup.starts.run(signal, () => makeNew(job));
  sameSpec(handle, found.labels[LABELS.spec], wanted.hash);
  return await reuse(job, found);
}

const look = ({ setup, names }: Job, signal: AbortSignal) =>
  lookAt(setup.engine, { name: names.container, instanceId: setup.instanceId, signal });

async function makeNew(job: Job): Promise<SandboxInfo> {
  const { setup, stages, dir, signal } = job;
  const image = await stages.run("image", () => findImage(job));
  const transport = setup.modelTransport ?? (await transportOf(setup, signal));
  await using rollback = new Rollback(setup.log);
  const createdAt = new Date().toISOString();
  const record: SandboxRecord = {
    handle: job.handle,
    provider: "docker",
    token: newToken(),
    createdAt,
    specHash: job.wanted.hash,
    uid: setup.uid,
    harnesses: [],
    extra: { transport },
  };
  await stages.run("create", async () => {
    // What an earlier life left without a container is of no use to anyone.
    await removeRunDir(dir);
    rollback.add("run directory", () => removeRunDir(dir));
    await makeRunDir(dir, record);
    await writeRecord(dir, record);
    const port = await job.context.beforeStart?.(dir.run, setup.uid);
    await createContainer(job, rollback, {
      image,
      transport,
      createdAt,
      modelPort: port?.modelPort,
    });
  });
  const info = await startAndWait(job, record);
  rollback.keep();
  return { ...info, ...stages.result() };
}

/** The wanted image's tag, which is on this machine then. Never asks a registry. */
async function findImage({ setup, wanted, context, signal }: Job): Promise<string> {
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

async function transportOf(setup: DockerSetup, signal: AbortSignal): Promise<ModelTransport> {
  const probe = await probeDocker(setup.engine, signal);
  if (!probe.available) {
    throw new DecoError("docker_unavailable", probe.reason ?? "the engine is not usable");
  }
  return probe.details?.["modelTransport"] === "gateway" ? "gateway" : "socket";
}

async function createContainer(
  job: Job,
  rollback: Rollback,
  o: { image: string; transport: ModelTransport; createdAt: string; modelPort: number | undefined },
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
    createdAt: o.createdAt,
    thread: job.context.thread,
    harness: job.context.harness,
    modelPort: o.modelPort,
    gateway: o.transport === "gateway",
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
async function forceRemove({ setup, names }: Job, signal: AbortSignal): Promise<void> {
  const { engine, instanceId } = setup;
  const found = await lookAt(engine, { name: names.container, instanceId, signal });
  if (found === undefined) return;
  await orMissing(
    engine.call(
      "remove a container",
      (docker) => docker.getContainer(found.id).remove({ force: true, v: true }),
      { signal },
    ),
  );
}

async function startAndWait(job: Job, record: SandboxRecord): Promise<SandboxInfo> {
  const { setup, stages, names, signal } = job;
  await stages.run("start", async () => {
    await setup.engine.call(
      "start a container",
      (docker) => docker.getContainer(names.container).start(),
      { signal, deadlineMs: 60_000 },
    );
  });
  return await stages.run("ready", () => waitUntilReady(job, record, setup.readyTimeoutMs));
}

async function waitUntilReady(job: Job, record: SandboxRecord, timeoutMs: number) {
  const { setup, dir, signal } = job;
  const started = await running(job, signal);
  const ready = await awaitReady({
    endpoints: endpointsOf(started, record, dir),
    life: (s) => running(job, s),
    timeoutMs,
    signal,
  });
  const now = await running(job, signal);
  const known: SandboxRecord = {
    ...record,
    harnesses: ready.harnesses,
    extra: { ...record.extra, ...(await sparedPids(setup, { record, now, signal })) },
  };
  await writeRecord(dir, known);
  return infoOf(now, known);
}

/** Notes who init and harnessd are at the beginning of a life, when nothing else runs inside. */
async function sparedPids(
  setup: DockerSetup,
  o: { record: SandboxRecord; now: ContainerLook; signal: AbortSignal },
): Promise<Record<string, unknown>> {
  const { now } = o;
  if (o.record.extra["startedAt"] === now.startedAt) return {};
  const all = await topProcesses(setup.engine, now.id, o.signal);
  const own = all.filter(({ pid, parent }) => pid === now.initPid || parent === now.initPid);
  return { sparedPids: own.map(({ pid }) => pid), startedAt: now.startedAt };
}

/** Every way in that the sandbox has; the socket first. */
function endpointsOf(
  found: ContainerLook,
  { token, uid, extra }: SandboxRecord,
  dir: RunDir,
): [HarnessEndpoint, ...HarnessEndpoint[]] {
  const socket = { socketPath: join(dir.run, "harnessd.sock"), socketUid: uid, token };
  if (found.port === undefined) return [socket];
  const port = { url: `http://127.0.0.1:${found.port}`, token };
  return extra["transport"] === "gateway" ? [port] : [socket, port];
}

/** The container while it runs; a crash is told with its exit code and last lines. */
async function running(job: Job, signal: AbortSignal): Promise<ContainerLook> {
  const found = await look(job, signal);
  if (found === undefined) {
    throw new DecoError("sandbox_lost", `the container of ${job.handle} disappeared`);
  }
  if (found.status === "running") return found;
  const { engine } = job.setup;
  const log = await containerLogs(engine, { name: found.id, lines: 20, signal }).catch(() => "");
  const why = found.oomKilled ? "was out of memory" : `ended with exit code ${found.exitCode}`;
  throw new DecoError("sandbox_failed", `the sandbox ${why} before it was ready: ${log.trim()}`, {
    extensions: { exitCode: found.exitCode, log },
  });
}

/** An existing sandbox: as it is when it runs, started again when it stopped. */
async function reuse(job: Job, found: ContainerLook): Promise<SandboxInfo> {
  const { setup, dir, signal, stages } = job;
  const record = await readRecord(dir);
  if (record === undefined) {
    throw new DecoError("sandbox_failed", `the token of sandbox ${job.handle} is lost`, {
      fix: `Delete it: deco sandbox rm ${job.handle}`,
    });
  }
  await job.context.beforeStart?.(dir.run, setup.uid);
  if (found.status === "running") {
    return await stages.run("ready", () => waitUntilReady(job, record, 10_000));
  }
  return await setup.starts.run(signal, () => startAgain(job, record));
}

async function startAgain(job: Job, record: SandboxRecord): Promise<SandboxInfo> {
  const { setup, dir } = job;
  await using rollback = new Rollback(setup.log);
  // Its harnessd deleted the token, and left a socket that nobody listens on.
  await rm(join(dir.run, "harnessd.sock"), { force: true });
  const path = join(dir.run, "token");
  await rm(path, { recursive: true, force: true });
  await writeFile(path, record.token, { mode: 0o600, flag: "wx" });
  if (process.getuid?.() === 0) await chown(path, setup.uid, setup.uid);
  rollback.add("start", async (signal) => {
    await setup.engine
      .call("stop it", (docker) => docker.getContainer(job.names.container).kill(), { signal })
      .catch((thrown: unknown) => {
        if (refusedStatus(thrown) === undefined) throw thrown;
      });
  });
  const info = await startAndWait(job, record);
  rollback.keep();
  return { ...info, ...job.stages.result() };
}
