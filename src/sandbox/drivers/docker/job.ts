import { DecoError } from "../../../protocol/errors.ts";
import type { EnsureContext } from "../../provider.ts";
import { newToken, type RunDir, type SandboxRecord } from "../../run-dir.ts";
import type { WantedSandbox } from "../../sandbox-spec.ts";
import type { Semaphore } from "../../semaphore.ts";
import type { Stages } from "../../stages.ts";
import type { DockerProviderOptions } from "./docker-options.ts";
import type { Engine } from "./engine.ts";
import { lookAt } from "./look.ts";
import type { Names } from "./names.ts";
import type { InstanceNetwork } from "./network.ts";
import { type ModelTransport, probeDocker } from "./probe.ts";

export interface DockerSetup extends DockerProviderOptions {
  readonly engine: Engine;
  readonly uid: number;
  readonly starts: Semaphore;
  readonly network: InstanceNetwork;
  readonly readyTimeoutMs: number;
}

/** One provisioning: everything that its steps share. */
export interface Job {
  readonly setup: DockerSetup;
  readonly handle: string;
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
export async function newRecord(job: Job, createdAt: string | undefined): Promise<SandboxRecord> {
  const { setup, handle, wanted, signal } = job;
  const transport = setup.modelTransport ?? (await transportOf(setup, signal));
  return {
    handle,
    provider: "docker",
    token: newToken(),
    createdAt: createdAt ?? new Date().toISOString(),
    specHash: wanted.hash,
    uid: setup.uid,
    harnesses: [],
    extra: { transport },
  };
}

async function transportOf(setup: DockerSetup, signal: AbortSignal): Promise<ModelTransport> {
  const probe = await probeDocker(setup.engine, signal);
  if (!probe.available) {
    throw new DecoError("docker_unavailable", probe.reason ?? "the engine is not usable");
  }
  return probe.details?.["modelTransport"] === "gateway" ? "gateway" : "socket";
}
