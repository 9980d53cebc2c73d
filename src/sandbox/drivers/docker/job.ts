import { DecoError } from "../../../protocol/errors.ts";
import type { EnsureContext, ProviderProbe } from "../../provider.ts";
import { newToken, type RunDir, type SandboxRecord } from "../../run-dir.ts";
import type { WantedSandbox } from "../../sandbox-spec.ts";
import type { Semaphore } from "../../semaphore.ts";
import type { Stages } from "../../stages.ts";
import type { BuildName, Platform } from "../../templates/template.ts";
import { lookAt } from "./container/look.ts";
import type { DockerProviderOptions } from "./docker-options.ts";
import type { Engine } from "./engine/engine.ts";
import { type ModelTransport, probeDocker } from "./engine/probe.ts";
import type { Names } from "./names.ts";
import type { InstanceNetwork } from "./network/network.ts";
import type { PausePool } from "./network/pause-pool.ts";
import type { ThreadNetworks } from "./network/thread-network.ts";
import type { WarmPool } from "./warm/warm-pool.ts";

export interface DockerSetup extends DockerProviderOptions {
  readonly engine: Engine;
  readonly uid: number;
  readonly starts: Semaphore;
  readonly network: InstanceNetwork;
  readonly pauses: PausePool;
  readonly threads: ThreadNetworks;
  readonly warm: WarmPool;
  readonly seen: Seen;
  readonly readyTimeoutMs: number;
}

/** What was found out once, and is not asked again with each sandbox. */
export interface Seen {
  /** By the newest probe that the engine answered. */
  transport?: ModelTransport;
  podman?: boolean;
  /** Where the engine keeps its data, as it names it. */
  rootDir?: string;
  /** Its containers have no filter of system calls unless they name one. */
  unconfined?: boolean;
  /** Of the machine that its containers run on. */
  memoryMib?: number;
  /** Which engine it is; see `markOf`. */
  mark?: string;
  /** Whether it runs on this machine's own kernel. */
  sameKernel?: boolean;
  /** Directories of other engines' sandboxes, when that was told last. */
  ofOthers?: number;
  /** Tags of our images, by name and platform: to compute one reads files and runs programs. */
  readonly tags: Map<`${BuildName} ${Platform}`, string>;
  /** Digests of the images that sandboxes were made from, by what the engine was told. */
  readonly digests: Map<string, string>;
}

/** One provisioning: everything that its steps share. */
export interface Job {
  readonly setup: DockerSetup;
  readonly handle: string;
  /** It is made ahead, for nobody yet. */
  readonly spare?: boolean;
  /** The handle that its volume was made ahead with. */
  readonly madeAs?: string;
  readonly context: EnsureContext;
  readonly wanted: WantedSandbox;
  readonly names: Names;
  readonly dir: RunDir;
  readonly stages: Stages;
  readonly signal: AbortSignal;
}

/** The container of this job, if there is one. */
export const look = ({ setup, names }: Job, signal: AbortSignal) =>
  lookAt(setup.engine, { name: names.container, instanceId: setup.instanceId, signal });

/** A record with a fresh token; how the model is reached is asked of the engine. */
export async function newRecord(
  job: Job,
  {
    createdAt,
    owner = job.context.owner,
  }: { createdAt?: string | undefined; owner?: string | undefined } = {},
): Promise<SandboxRecord> {
  const { setup, handle, wanted, madeAs, signal } = job;
  const { modelTransport = setup.seen.transport } = setup;
  const transport = modelTransport ?? (await transportOf(setup, signal));
  return {
    handle,
    provider: "docker",
    token: newToken(),
    createdAt: createdAt ?? new Date().toISOString(),
    specHash: wanted.hash,
    ...(owner === undefined ? {} : { owner }),
    uid: setup.uid,
    harnesses: [],
    extra: {
      transport,
      ...(setup.seen.mark === undefined ? {} : { engine: setup.seen.mark }),
      ...(madeAs === undefined ? {} : { madeAs }),
    },
  };
}

/** Before a sandbox is made: the next daemon of this home may find another engine. */
export async function noteEngine({ engine, engines, seen }: DockerSetup): Promise<void> {
  if (seen.mark !== undefined) await engines?.use({ mark: seen.mark, address: engine.address });
}

async function transportOf(setup: DockerSetup, signal: AbortSignal): Promise<ModelTransport> {
  const probe = await probeAndNote(setup, signal);
  if (!probe.available) {
    throw new DecoError("docker_unavailable", probe.reason ?? "the engine is not usable");
  }
  return setup.seen.transport ?? "socket";
}

/** Asks the engine, and notes how the model is reached from its containers. */
export async function probeAndNote(
  { engine, seen }: Pick<DockerSetup, "engine" | "seen">,
  signal: AbortSignal,
): Promise<ProviderProbe> {
  const probe = await probeDocker(engine, signal);
  const transport = probe.details?.["modelTransport"];
  if (transport === "gateway" || transport === "socket") seen.transport = transport;
  if (probe.available) seen.podman = probe.details?.["engine"] === "podman";
  const rootDir = probe.details?.["rootDir"];
  if (typeof rootDir === "string" && rootDir !== "") seen.rootDir = rootDir;
  if (probe.available) seen.unconfined = probe.details?.["seccomp"] === "unconfined";
  const memoryMib = Number(probe.details?.["memoryMib"] ?? 0);
  if (memoryMib > 0) seen.memoryMib = memoryMib;
  const mark = probe.details?.["mark"];
  if (typeof mark === "string") seen.mark = mark;
  const sameKernel = probe.details?.["sameKernel"];
  if (typeof sameKernel === "boolean") seen.sameKernel = sameKernel;
  return probe;
}
