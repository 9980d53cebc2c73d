import { availableParallelism } from "node:os";
import { DecoError } from "../../../protocol/errors.ts";
import type {
  EnsureContext,
  HarnessEndpoint,
  SandboxInfo,
  SandboxProvider,
} from "../../provider.ts";
import { listRecords, readRecord, runDirOf } from "../../run-dir.ts";
import type { ResolvedSpec } from "../../sandbox-spec.ts";
import { Semaphore } from "../../semaphore.ts";
import { SharedWork } from "../../shared-work.ts";
import { findPauseImage } from "./container/create-container.ts";
import { execIn } from "./container/exec.ts";
import {
  type ContainerLook,
  containerLogs,
  infoOf,
  lookAt,
  unknownInfo,
} from "./container/look.ts";
import { listOwnContainers } from "./container/own-containers.ts";
import { killStrangers, strangers } from "./container/processes.ts";
import type { DockerProviderOptions } from "./docker-options.ts";
import { dockerEngine } from "./engine/engine.ts";
import { type DockerSetup, probeAndNote, type Seen } from "./job.ts";
import { findOrphans, removeOrphan } from "./life/orphans.ts";
import { ensureContainer } from "./life/provision.ts";
import { removeSandbox } from "./life/remove-sandbox.ts";
import { stopSandbox } from "./life/stop-sandbox.ts";
import { dockerFiles } from "./life/workspace.ts";
import { handleOf, isSpare, LABELS, namesOf, WARM_ROLE } from "./names.ts";
import { instanceNetwork } from "./network/network.ts";
import { PausePool } from "./network/pause-pool.ts";
import { threadNetworks } from "./network/thread-network.ts";
import { whyNone } from "./warm/warm-lease.ts";
import { WarmPool } from "./warm/warm-pool.ts";
import { warmMaker } from "./warm/warm-sandbox.ts";

/** Sandboxes as hardened containers of the local Docker engine. */
export function dockerProvider(options: DockerProviderOptions): SandboxProvider {
  const works = new SharedWork<SandboxInfo>();
  const setup = setupOf(options);
  const { engine, network, pauses, threads, warm } = setup;
  return {
    name: "docker",
    probe: (signal) => probeAndNote(setup, signal),
    prepare: async ({ ahead }, signal) => {
      await warm.tend(signal);
      await pauses.reap(signal);
      if (!ahead) return;
      pauses.refill();
      warm.refill();
    },
    close: async (signal) => {
      await warm.close(signal);
      await pauses.close(signal);
      await threads.removeUnused(signal);
      await network.removeIfUnused(signal);
    },
    ensure: (handle: string, spec: ResolvedSpec, context: EnsureContext, signal: AbortSignal) =>
      works.run(handle, signal, (shared) =>
        ensureContainer(setup, { handle, spec, context }, shared).finally(() => {
          pauses.refill();
          warm.refill();
        }),
      ),
    madeAhead: () => {
      const reason = whyNone(setup);
      return { ...warm.counts(), ...(reason === undefined ? {} : { reason }) };
    },
    list: (signal, o) => listContainers(setup, signal, o?.deadlineMs),
    inspect: (handle, signal) => inspectContainer(setup, handle, signal),
    remove: (handle, signal) => removeSandbox(setup, { handle }, signal),
    stop: (handle, signal) => stopSandbox(setup, handle, signal),
    processesLeft: async (handle, signal) => {
      const found = await killTarget(setup, handle, signal);
      return found === undefined ? 0 : (await strangers(found)).length;
    },
    killProcesses: async (handle, signal) => {
      const found = await killTarget(setup, handle, signal);
      return found === undefined ? 0 : await killStrangers(found);
    },
    endpoint: (handle, signal) => endpointOf(setup, handle, signal),
    files: dockerFiles(setup, (handle, signal) => endpointOf(setup, handle, signal)),
    orphans: (signal) => findOrphans(setup, signal),
    removeOrphan: async (orphan, signal) => {
      if (orphan.handle !== undefined && works.has(orphan.handle)) return;
      await removeOrphan(setup, orphan, signal);
    },
    exec: (handle, command, signal) => exec(setup, handle, command, signal),
    logs: (handle, lines, signal) =>
      containerLogs(engine, { name: namesOf(options.instanceId, handle).container, lines, signal }),
  };
}

function setupOf(options: DockerProviderOptions): DockerSetup {
  const engine = dockerEngine(options, options.callTimeoutMs);
  // More at once bring nothing: two cores start about 4 a second however many wait.
  const starts = new Semaphore(8 * availableParallelism());
  const idle = () => starts.idle;
  const seen: Seen = { tags: new Map(), digests: new Map() };
  const own = { engine, instanceId: options.instanceId, log: options.log };
  const network = instanceNetwork(own);
  const pauses = new PausePool({
    ...own,
    size: options.pausePool ?? 0,
    image: (signal) => findPauseImage({ ...options, engine, seen }, signal),
    network: (signal) => network.ensure(signal),
    idle,
  });
  const warm = new WarmPool({
    size: options.warmSandboxes ?? 0,
    memoryMib: options.warmMemoryMib ?? 128,
    maker: warmMaker(() => setup),
    idle,
    log: options.log,
  });
  const threads = threadNetworks(own);
  const readyTimeoutMs = options.readyTimeoutMs ?? 30_000;
  const parts = { engine, starts, network, pauses, threads, warm, seen, readyTimeoutMs };
  const setup: DockerSetup = { ...options, ...parts, uid: sandboxUid() };
  return setup;
}

function lookUp({ engine, instanceId }: DockerSetup, handle: string, signal: AbortSignal) {
  return lookAt(engine, { name: namesOf(instanceId, handle).container, instanceId, signal });
}

async function inspectContainer(
  setup: DockerSetup,
  handle: string,
  signal: AbortSignal,
): Promise<SandboxInfo | undefined> {
  const dir = runDirOf(setup.runRoot, "docker", handle);
  const record = await readRecord(dir);
  try {
    const found = await lookUp(setup, handle, signal);
    return found === undefined ? undefined : infoOf(found, record);
  } catch (thrown) {
    signal.throwIfAborted();
    if (record?.provider !== "docker") throw thrown;
    return unknownInfo(record, dir.run);
  }
}

/** What `processesLeft` and `killProcesses` look at; undefined when nothing runs at all. */
async function killTarget(setup: DockerSetup, handle: string, signal: AbortSignal) {
  const { engine, uid, runRoot } = setup;
  const found = await lookUp(setup, handle, signal);
  if (found?.status !== "running") return undefined;
  const record = await readRecord(runDirOf(runRoot, "docker", handle));
  const pids = record?.extra["sparedPids"];
  const noted = record?.extra["startedAt"] === found.startedAt && Array.isArray(pids) ? pids : [];
  const spared = new Set([found.initPid, ...noted.map(Number)]);
  const { id: containerId, hostPids } = found;
  return { engine, containerId, hostPids, spared, uid, signal };
}

/** Mounts belong to the daemon's user; root gives them to a user without rights. */
function sandboxUid(): number {
  const own = process.getuid?.() ?? 1000;
  return own === 0 ? 1000 : own;
}

function isSandbox(name: string, labels: Readonly<Record<string, string>>): boolean {
  const role = labels[LABELS.role];
  return role === undefined || (role === WARM_ROLE && !isSpare(name, labels));
}

async function listContainers(
  setup: DockerSetup,
  signal: AbortSignal,
  deadlineMs = 60_000,
): Promise<SandboxInfo[]> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
  const { runRoot } = setup;
  const records = (await listRecords(runRoot)).filter((record) => record.provider === "docker");
  const unknown = () =>
    records.map((record) => unknownInfo(record, runDirOf(runRoot, "docker", record.handle).run));
  try {
    const found = await listOwnContainers(setup, within);
    const sandboxes = found.filter(({ Names, Labels }) => isSandbox(Names[0] ?? "", Labels));
    const infos = await Promise.all(
      sandboxes.map(async ({ Names, Labels }) => {
        const handle = handleOf(Names[0] ?? "", Labels);
        const look = await lookUp(setup, handle, within);
        return (
          look &&
          infoOf(
            look,
            records.find((record) => record.handle === handle),
          )
        );
      }),
    );
    return infos.filter((info) => info !== undefined);
  } catch (thrown) {
    signal.throwIfAborted();
    const late = new DecoError("docker_unavailable", `no list within ${deadlineMs} ms`);
    const error = within.aborted ? late : DecoError.from(thrown);
    if (error.code !== "docker_unavailable" || records.length === 0) throw error;
    return unknown();
  }
}

async function* exec(
  setup: DockerSetup,
  handle: string,
  command: readonly string[],
  signal: AbortSignal,
) {
  const { id } = runningOne(handle, await lookUp(setup, handle, signal));
  yield* execIn({ engine: setup.engine, containerId: id, command, signal });
}

async function endpointOf(
  setup: DockerSetup,
  handle: string,
  signal: AbortSignal,
): Promise<HarnessEndpoint> {
  const { runRoot } = setup;
  const dir = runDirOf(runRoot, "docker", handle);
  const record = await readRecord(dir);
  const found = await lookUp(setup, handle, signal);
  const { port } = runningOne(handle, found);
  if (record === undefined) throw new DecoError("sandbox_lost", `sandbox ${handle} has no record`);
  const url = port === undefined ? {} : { url: `http://127.0.0.1:${port}` };
  if (record.extra["transport"] === "gateway") return { ...url, token: record.token };
  const socketPath = `${dir.run}/harnessd.sock`;
  return { ...url, socketPath, socketUid: record.uid, token: record.token };
}

function runningOne(handle: string, found: ContainerLook | undefined): ContainerLook {
  if (found === undefined) throw new DecoError("sandbox_not_found", `no sandbox ${handle}`);
  if (found.status === "running") return found;
  throw new DecoError("sandbox_lost", `sandbox ${handle} is ${found.engineStatus}`);
}
