import { dirname } from "node:path";
import type Dockerode from "dockerode";
import { DecoError } from "../../../../protocol/errors.ts";
import { oomKillsAround } from "../../../oom-kills.ts";
import { OWNERS } from "../../../owner.ts";
import type { SandboxInfo } from "../../../provider.ts";
import { runDirOf, type SandboxRecord } from "../../../run-dir.ts";
import { tierOf } from "../../../sandbox-spec.ts";
import { type Engine, orMissing } from "../engine/engine.ts";
import { givenLabels, handleOf, LABELS, WARM_ROLE } from "../names.ts";
import { HARNESS_PORT, isPrivileged } from "./tiers.ts";

/** One look at a container of ours. */
export interface ContainerLook {
  readonly id: string;
  readonly handle: string;
  readonly status: "running" | "stopped";
  /** The engine's word for it: created, running, paused, restarting, exited, dead. */
  readonly engineStatus: string;
  readonly exitCode: number;
  /** Whether the kernel ended anything inside for lack of memory, in this life. */
  readonly oomKilled: boolean;
  /** 0: no limit. */
  readonly memoryMib: number;
  /** Host pid of its init; 0 when it does not run. */
  readonly initPid: number;
  readonly startedAt: string;
  readonly restarts: number;
  /** Engine-chosen port on 127.0.0.1, when one is published. */
  readonly port: number | undefined;
  /** Ports inside that were asked for, each with its port on 127.0.0.1; empty while it does not run. */
  readonly ports: Readonly<Record<string, number>>;
  /** As the engine was told: a network's name, `none`, or `container:<id>`. */
  readonly networkMode: string;
  /** Whether it sees the pids of the engine's host. */
  readonly hostPids: boolean;
  readonly imageId: string;
  /** Name of the volume that is its workspace; undefined for a folder of the host. */
  readonly volume: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
}

/**
 * Inspects by name and checks that it is ours.
 *
 * @returns undefined when there is none
 * @throws docker_unavailable, sandbox_failed (a foreign container has the name)
 */
export async function lookAt(
  engine: Engine,
  o: { name: string; instanceId: string; signal: AbortSignal },
): Promise<ContainerLook | undefined> {
  const work = engine.call(
    "inspect a container",
    (docker, abortSignal) => docker.getContainer(o.name).inspect({ abortSignal }),
    { signal: o.signal },
  );
  const found = await orMissing(work);
  if (found === undefined) return undefined;
  const look = readLook(found);
  if (look.labels[LABELS.instance] === o.instanceId) return await withKernelsWord(look);
  throw new DecoError("sandbox_failed", `a container that is not ours is called ${o.name}`, {
    fix: `Rename or remove it: docker rm ${o.name}`,
  });
}

/** Of one that runs on, engines don't tell that something in it was ended. */
async function withKernelsWord(look: ContainerLook): Promise<ContainerLook> {
  if (look.oomKilled || look.initPid === 0) return look;
  return { ...look, oomKilled: (await oomKillsAround(look.initPid, look.id)) > 0 };
}

function readLook(found: Dockerode.ContainerInspectInfo): ContainerLook {
  const { State: state } = found;
  const all = publishedPorts(found);
  const { [HARNESS_PORT]: harnessd, ...others } = all;
  // Where harnessd does not listen there, that port was asked for like any other.
  const listens = found.Config.Env.includes(`HARNESS_ADDR=0.0.0.0:${HARNESS_PORT}`);
  // A crash loop says Running=true with the status "restarting" (LESSONS 26).
  const running = state.Running && ["running", "paused"].includes(state.Status);
  const labels = givenLabels(found.Config.Labels);
  return {
    id: found.Id,
    handle: handleOf(found.Name, labels),
    status: running ? "running" : "stopped",
    engineStatus: state.Status,
    exitCode: state.ExitCode,
    oomKilled: state.OOMKilled,
    memoryMib: Math.round((found.HostConfig.Memory ?? 0) / 1024 / 1024),
    initPid: state.Pid,
    startedAt: state.StartedAt,
    restarts: found.RestartCount,
    port: listens ? harnessd : undefined,
    ports: listens ? others : all,
    networkMode: found.HostConfig.NetworkMode ?? "",
    hostPids: found.HostConfig.PidMode === "host",
    imageId: found.Image,
    volume: workspaceVolume(found),
    labels,
  };
}

function workspaceVolume({ Mounts }: Dockerode.ContainerInspectInfo): string | undefined {
  return Mounts.find((one) => one.Destination === "/workspace" && one.Type === "volume")?.Name;
}

/** By port inside, what is bound on 127.0.0.1. */
function publishedPorts({
  NetworkSettings,
}: Dockerode.ContainerInspectInfo): Readonly<Record<string, number>> {
  const entries = Object.entries(NetworkSettings.Ports).flatMap(([name, bound]) => {
    const port = Number(bound?.[0]?.HostPort);
    return port > 0 ? [[name.replace("/tcp", ""), port] as const] : [];
  });
  return Object.fromEntries(entries);
}

/** What the outside is told of a container. */
export function infoOf(look: ContainerLook, record: SandboxRecord | undefined): SandboxInfo {
  const image = look.labels[LABELS.image];
  return {
    handle: look.handle,
    provider: "docker",
    status: look.status,
    ...(look.port === undefined ? {} : { url: `http://127.0.0.1:${look.port}` }),
    ...(image === undefined ? {} : { image }),
    imageId: look.imageId,
    ...(look.status === "stopped" ? { exitCode: look.exitCode } : {}),
    ...(look.oomKilled ? { outOfMemory: { limitMib: look.memoryMib } } : {}),
    imageDigest: look.labels[LABELS.digest] ?? look.imageId,
    ...(Object.keys(look.ports).length === 0 ? {} : { ports: look.ports }),
    id: look.id,
    startedAt: look.startedAt,
    createdAt: createdAtOf(look, record),
    harnesses: record?.harnesses ?? [],
    confined: !isPrivileged(tierOf(Number(look.labels[LABELS.tier]))),
    ...ownerOf(look, record),
    runDir: runPathOf(look),
  };
}

/** One that was made ahead is as old as its lease. */
function createdAtOf({ labels, startedAt }: ContainerLook, record: SandboxRecord | undefined) {
  const leased = labels[LABELS.role] === WARM_ROLE ? record?.createdAt : undefined;
  return leased ?? labels[LABELS.created] ?? startedAt;
}

/**
 * Whose it is. The labels of one that was made ahead were written for nobody: without its record it is
 * somebody's, and nobody knows whose.
 */
export function ownerOf(
  { labels }: Pick<ContainerLook, "labels">,
  record: SandboxRecord | undefined,
): { owner?: string } {
  const lost = labels[LABELS.role] === WARM_ROLE && record === undefined;
  const owner = record?.owner ?? labels[LABELS.owner] ?? (lost ? OWNERS.unknown : undefined);
  return owner === undefined ? {} : { owner };
}

/** A lease moves the directory, and leaves a link where the label says that it is. */
function runPathOf({ labels, handle }: ContainerLook): string {
  const path = labels[LABELS.rundir];
  if (path === undefined || labels[LABELS.role] !== WARM_ROLE) return path ?? "";
  return runDirOf(dirname(dirname(path)), "docker", handle).run;
}

/** What is known of a sandbox while the engine does not answer: time-out is not dead (LESSONS 27). */
export function unknownInfo(record: SandboxRecord, runDir: string): SandboxInfo {
  return {
    handle: record.handle,
    provider: "docker",
    status: "unknown",
    id: "",
    startedAt: record.createdAt,
    createdAt: record.createdAt,
    harnesses: record.harnesses,
    confined: true,
    ...(record.owner === undefined ? {} : { owner: record.owner }),
    runDir,
  };
}

/** The last lines that a container wrote, both streams in the engine's order. */
export async function containerLogs(
  engine: Engine,
  o: { name: string; lines: number; signal: AbortSignal },
): Promise<string> {
  const raw = await engine.call(
    "read a log",
    (docker) =>
      docker
        .getContainer(o.name)
        .logs({ stdout: true, stderr: true, tail: o.lines, follow: false }),
    { signal: o.signal },
  );
  return demultiplexed(Buffer.from(raw));
}

/** Frames of `{stream, 0, 0, 0, u32 length}` and text. */
function demultiplexed(raw: Buffer): string {
  let text = "";
  for (let at = 0; at + 8 <= raw.length; ) {
    const end = at + 8 + raw.readUInt32BE(at + 4);
    text += raw.toString("utf8", at + 8, end);
    at = end;
  }
  return text;
}
