import { afterAll } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import type { DockerProviderOptions } from "../../src/sandbox/drivers/docker/docker-options.ts";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import type { EnsureContext, SandboxProvider } from "../../src/sandbox/provider.ts";
import { CACHE_DIR, quietLog, skipped } from "../suites/sandbox-provider-suite.ts";
import { type DockerObjects, dockerObjects } from "./docker-objects.ts";

/** Docker providers of one test file, each as one daemon of the same home after the other. */
export interface DockerLab {
  readonly available: boolean;
  readonly docker: Docker;
  readonly instanceId: string;
  readonly runRoot: string;
  readonly context: EnsureContext;
  readonly make: (more?: Partial<DockerProviderOptions>) => SandboxProvider;
  readonly objects: () => Promise<DockerObjects>;
}

/** At the end of the file everything is closed, and must be gone. */
export async function dockerLab(name: string): Promise<DockerLab> {
  const docker = new Docker({ socketPath: "/var/run/docker.sock", host: "" });
  const available = await docker.ping().then(
    () => true,
    () => false,
  );
  if (!available) skipped(name, "no engine", "run `npm run engines`");
  const instanceId = `${name}${process.pid}`;
  const runRoot = await mkdtemp(join(tmpdir(), "deco-l-"));
  const opened: SandboxProvider[] = [];
  const make = (more: Partial<DockerProviderOptions> = {}) => {
    const fixed = { instanceId, runRoot, cacheDir: CACHE_DIR, log: quietLog };
    const provider = dockerProvider({ ...fixed, ...more });
    opened.push(provider);
    return provider;
  };
  const objects = () => dockerObjects(instanceId, docker);
  afterAll(async () => {
    const signal = AbortSignal.timeout(30_000);
    if (available) {
      for (const { handle } of await make().list(signal)) await make().remove(handle, signal);
      for (const provider of opened) await provider.close?.(signal);
      const left = [...Object.values(await objects()).flat(), ...(await readdir(runRoot))];
      if (left.length > 0) throw new Error(`left behind: ${left.join(", ")}`);
    }
    await rm(runRoot, { recursive: true });
  });
  const context = { instanceId, onStage() {} };
  return { available, docker, instanceId, runRoot, context, make, objects };
}

/** Looks until it holds; the test's own time limit ends a wait in vain. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await Bun.sleep(20);
}
