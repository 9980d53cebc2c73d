import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import Docker from "dockerode";
import type { SandboxSpec } from "../../src/protocol/messages.ts";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import { createProviders } from "../../src/sandbox/providers.ts";
import type { BenchResult } from "../result.ts";

/** As the daemon has it unless it is told otherwise. */
const PAUSE_POOL = 2;

export interface SandboxLab extends AsyncDisposable {
  readonly docker: Docker;
  readonly engine: SandboxProvider;
  readonly confined: SandboxProvider;
  /** Tag of what a sandbox without wishes runs; the rival runs it, too. */
  readonly image: string;
  readonly signal: AbortSignal;
  /** An instance of its own, which keeps so many sandboxes ready; the caller's to close. */
  readonly warmed: (size: number) => Promise<Warmed>;
  readonly ensure: (provider: SandboxProvider, handle: string, spec?: SandboxSpec) => Promise<void>;
  /** Waits until what was made ahead is there again: neither side pays for it in its own time. */
  readonly settle: () => Promise<void>;
  /** Containers, volumes, networks and directories of this bench. */
  readonly objects: () => Promise<string[]>;
}

export interface Warmed {
  readonly engine: SandboxProvider;
  readonly ensure: (handle: string) => Promise<void>;
}

/** One set of results; each opens and removes its own sandboxes. */
export type Measure = (lab: SandboxLab) => Promise<BenchResult[]>;

const log = {
  debug() {},
  info() {},
  warn: (facts: object, text: string) => console.error(text, facts),
};

export async function sandboxLab(limitMs: number): Promise<SandboxLab> {
  const runRoot = await mkdtemp(join(tmpdir(), "deco-bench-"));
  const cacheDir = join(import.meta.dirname, "../../.cache/deco");
  const instanceId = `bench${process.pid}`;
  const fixed = { instanceId, runRoot, cacheDir, log, pausePool: PAUSE_POOL };
  const providers = createProviders(fixed);
  const docker = new Docker({ socketPath: "/var/run/docker.sock", host: "" });
  const signal = AbortSignal.timeout(limitMs);
  const engine = existing(providers.get("docker"));
  const context = { instanceId, onStage() {} };
  const filters = { label: [`dev.deco-link.instance=${instanceId}`] };
  const containers = () => docker.listContainers({ all: true, filters });
  const ahead = async () => {
    const all = await containers();
    const joined = new Set(all.map(({ HostConfig }) => HostConfig.NetworkMode));
    const pauses = all.filter(({ Labels }) => Labels["dev.deco-link.role"] === "pause");
    return pauses.filter(({ Id, State }) => State === "running" && !joined.has(`container:${Id}`));
  };
  return {
    docker,
    engine,
    confined: existing(providers.get("process")),
    signal,
    warmed: async (warmSandboxes) => {
      const parts = { ...fixed, instanceId: `${instanceId}w`, runRoot: join(runRoot, "w") };
      await mkdir(parts.runRoot, { recursive: true });
      const provider = existing(createProviders({ ...parts, warmSandboxes }).get("docker"));
      const own = { instanceId: parts.instanceId, onStage() {} };
      return {
        engine: provider,
        ensure: async (handle) => void (await provider.ensure(handle, {}, own, signal)),
      };
    },
    image: await firstImage(engine, context, signal),
    ensure: async (provider, handle, spec = {}) => {
      await provider.ensure(handle, spec, context, signal);
    },
    settle: async () => {
      await engine.prepare?.({ ahead: true }, signal);
      while ((await ahead()).length < PAUSE_POOL) await delay(50, undefined, { signal });
      await delay(300, undefined, { signal });
    },
    objects: async () => {
      const text = JSON.stringify(filters);
      const { Volumes: volumes } = await docker.listVolumes({ filters: text });
      const networks = await docker.listNetworks({ filters: text });
      return [
        ...(await containers()).map(({ Names }) => Names.join()),
        ...(volumes ?? []).map(({ Name }) => Name),
        ...networks.map(({ Name }) => Name),
        ...(await readdir(runRoot)).filter((name) => name !== "w"),
      ];
    },
    [Symbol.asyncDispose]: async () => {
      for (const provider of providers.values())
        await provider.close?.(AbortSignal.timeout(30_000));
      await rm(runRoot, { recursive: true, force: true });
    },
  };
}

/** Builds the image outside of what is measured; empty without an engine. */
async function firstImage(
  engine: SandboxProvider,
  context: { instanceId: string; onStage(): void },
  signal: AbortSignal,
): Promise<string> {
  if (!(await engine.probe(signal)).available) return "";
  const { image = "" } = await engine.ensure("bench-warm", {}, context, signal);
  await engine.remove("bench-warm", signal);
  return image;
}

function existing<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("this build has no such provider");
  return value;
}
