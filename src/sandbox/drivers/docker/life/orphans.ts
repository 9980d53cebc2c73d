import { lstat, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Orphan } from "../../../provider.ts";
import { listRecords, readRecord, type SandboxRecord } from "../../../run-dir.ts";
import { listOwnContainers, ownFilter } from "../container/own-containers.ts";
import { removeVolume } from "../container/remove.ts";
import { orMissing } from "../engine/engine.ts";
import { askMark } from "../engine/engine-mark.ts";
import type { DockerSetup } from "../job.ts";
import { handleOf, LABELS, namesOf } from "../names.ts";

/** What is younger may be on the way to a sandbox: no step from the first to the last takes longer. */
const GRACE_MS = 5 * 60_000;

const LOST = "its container is gone";

type Setup = Pick<
  DockerSetup,
  "engine" | "instanceId" | "runRoot" | "network" | "engines" | "seen" | "log"
>;

interface Whole {
  readonly containers: Awaited<ReturnType<typeof listOwnContainers>>;
  readonly now: number;
  /** Names of this instance's volumes. */
  readonly volumes: ReadonlySet<string>;
  /** Whether this home's record is of a sandbox that another engine may still have. */
  readonly ofAnother: (record: SandboxRecord | undefined) => boolean;
}

/**
 * What this instance's daemons left behind without a container: volumes, networks, run directories.
 * By label and record alone, so that a neighbour's things are never among them (LESSONS 30).
 *
 * @throws docker_unavailable: then nothing is known (LESSONS 27)
 */
export async function findOrphans(
  setup: Setup,
  signal: AbortSignal,
  now = Date.now(),
): Promise<Orphan[]> {
  // Listed before the containers: what is made in between has its container then.
  const [volumes, networks, dirs] = await Promise.all([
    heirsOf(setup).then((heirs) => listVolumes(setup, heirs, signal)),
    listNetworks(setup, signal),
    readdir(setup.runRoot).catch(() => []),
  ]);
  const others = await othersOf(setup, signal);
  const whole: Whole = {
    containers: await listOwnContainers(setup, signal),
    now,
    volumes: new Set(volumes.map(({ name }) => name)),
    ofAnother: others.has,
  };
  const old = ({ createdAt }: Orphan) => now - Date.parse(createdAt) >= GRACE_MS;
  const found = await Promise.all(dirs.map((name) => orphanDir(setup, whole, name)));
  others.tell();
  return [
    ...volumes.filter((one) => !usesHandle(whole, one.handle) && !mounts(whole, one.name)),
    ...networks.filter(({ name }) => name !== setup.network.name && !usesNetwork(whole, name)),
    ...found.filter((one) => one !== undefined),
  ].filter(old);
}

/** Whose sandboxes are that were made ahead: by the handle that their volume is marked with. */
async function heirsOf({ runRoot }: Pick<Setup, "runRoot">): Promise<ReadonlyMap<string, string>> {
  const records = await listRecords(runRoot);
  return new Map(
    records.flatMap(({ provider, handle, extra: { madeAs } }) =>
      provider === "docker" && typeof madeAs === "string" ? [[madeAs, handle]] : [],
    ),
  );
}

/**
 * A daemon that started while its engine was down has another one: of the first one's sandboxes it
 * knows nothing. A record says which engine it is of; one of before there were marks is of another
 * one wherever this home has used more than one.
 */
async function othersOf({ engine, engines, seen, log, runRoot }: Setup, signal: AbortSignal) {
  const mark = await askMark(engine, signal);
  const hadOthers = engines?.known().some((one) => one !== mark) === true;
  let count = 0;
  return {
    has: (record: SandboxRecord | undefined) => {
      if (record?.provider !== "docker") return false;
      const { engine: made } = record.extra;
      const isOthers = typeof made === "string" ? made !== mark : hadOthers;
      if (isOthers) count += 1;
      return isOthers;
    },
    tell: () => {
      if (count > 0 && count !== seen.ofOthers) {
        const told = { count, runRoot, address: engine.address };
        log.warn(told, "sandboxes of another Docker engine are left alone: see `deco doctor`");
      }
      seen.ofOthers = count;
    },
  };
}

/** Gone already is success. @throws sandbox_failed when the engine says that it is in use */
export async function removeOrphan(
  { engine, runRoot }: Setup,
  { kind, name }: Orphan,
  signal: AbortSignal,
): Promise<void> {
  if (kind === "volume") return await removeVolume(engine, name, signal);
  if (kind === "run directory") {
    return await rm(join(runRoot, name), { recursive: true, force: true });
  }
  await orMissing(
    engine.call("remove a network", (docker) => docker.getNetwork(name).remove(), { signal }),
  );
}

/** One that was made ahead has two: what it was made with, and whose it is. */
const usesHandle = ({ containers }: Whole, handle: string | undefined) =>
  containers.some(
    ({ Names, Labels }) =>
      Labels[LABELS.handle] === handle || handleOf(Names[0] ?? "", Labels) === handle,
  );

const mounts = ({ containers }: Whole, volume: string) =>
  containers.some(({ Mounts }) => Mounts.some(({ Name }) => Name === volume));

/** Those that don't run keep their place in it, too. */
const usesNetwork = ({ containers }: Whole, name: string) =>
  containers.some(
    ({ HostConfig, NetworkSettings }) =>
      HostConfig.NetworkMode === name || Object.hasOwn(NetworkSettings?.Networks ?? {}, name),
  );

async function orphanDir(
  { runRoot, instanceId }: Setup,
  whole: Whole,
  name: string,
): Promise<Orphan | undefined> {
  // As runDirOf names them; whatever else lies there is not ours.
  if (!/^[0-9a-f]{10}$/.test(name)) return undefined;
  const base = join(runRoot, name);
  const run = join(base, "run");
  const record = await readRecord({ base, run, record: join(base, "sandbox.json") });
  if (whole.containers.some(({ Labels }) => Labels[LABELS.rundir] === run)) return undefined;
  if (whole.ofAnother(record)) return undefined;
  const found = await lstat(base).catch(() => undefined);
  if (found === undefined) return undefined;
  if (found.isSymbolicLink()) {
    // Left by a lease whose sandbox is gone; while that is there, a container has this label.
    return { kind: "run directory", name, createdAt: found.mtime.toISOString(), reason: LOST };
  }
  const createdAt = found.mtime.toISOString();
  if (record?.provider === "docker") {
    if (usesHandle(whole, record.handle)) return undefined;
    const { madeAs } = record.extra;
    // It alone says whose that workspace is.
    const needed = typeof madeAs === "string" && namesOf(instanceId, madeAs).volume;
    if (needed !== false && whole.volumes.has(needed)) return undefined;
    const reason = LOST;
    return { kind: "run directory", name, handle: record.handle, createdAt, reason };
  }
  if (record !== undefined || !(await isHalfMade(base))) return undefined;
  return { kind: "run directory", name, createdAt, reason: "it was never finished" };
}

/** Nothing but what is there before the record: another provider's would have more. */
async function isHalfMade(base: string): Promise<boolean> {
  const names = await readdir(base).catch(() => ["unknown"]);
  return names.every((name) => name === "run" || name.startsWith("sandbox.json"));
}

async function listVolumes(
  setup: Setup,
  heirs: ReadonlyMap<string, string>,
  signal: AbortSignal,
): Promise<Orphan[]> {
  const filters = JSON.stringify(ownFilter(setup));
  const { Volumes: volumes } = await setup.engine.call(
    "list volumes",
    (docker) => docker.listVolumes({ filters }),
    { signal },
  );
  return (volumes ?? []).flatMap((volume) => {
    const handle = volume.Labels?.[LABELS.handle];
    if (handle === undefined) return [];
    const createdAt = textOf(volume, "CreatedAt");
    return {
      kind: "volume",
      name: volume.Name,
      handle: heirs.get(handle) ?? handle,
      createdAt,
      reason: LOST,
    };
  });
}

async function listNetworks(setup: Setup, signal: AbortSignal): Promise<Orphan[]> {
  const filters = JSON.stringify(ownFilter(setup));
  const networks = await setup.engine.call(
    "list networks",
    (docker) => docker.listNetworks({ filters }),
    { signal },
  );
  return networks.map((network) => ({
    kind: "network",
    name: network.Name,
    createdAt: textOf(network, "Created"),
    reason: "no container is in it",
  }));
}

function textOf(thing: object, name: string): string {
  const value: unknown = Reflect.get(thing, name);
  return typeof value === "string" ? value : "";
}
