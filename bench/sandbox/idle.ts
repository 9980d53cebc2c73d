import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import { alone, quantile } from "../result.ts";
import type { Measure } from "./lab.ts";

const SANDBOXES = 8;
const IDLE_MS = 5_000;
const MIB = 2 ** 20;

/**
 * Memory of a sandbox that nobody uses, with the pause whose network it joined: what the cgroups
 * say, as `docker stats` counts it (without page cache that is free to go).
 */
export const idleMemory: Measure = async ({ docker, engine, ensure, settle, signal }) => {
  const handles = Array.from({ length: SANDBOXES }, (_, i) => `idle-${i}`);
  for (const handle of handles) {
    await settle();
    await ensure(engine, handle);
  }
  await delay(IDLE_MS, undefined, { signal });
  const infos = await engine.list(signal);
  const mib = await Promise.all(infos.map(({ id }) => withPause(docker, id)));
  for (const handle of handles) await engine.remove(handle, signal);
  const p50 = { metric: "idle_mib_per_sandbox", unit: "MiB", ours: quantile(mib, 0.5) };
  return [alone({ ...p50, runs: SANDBOXES })];
};

async function withPause(docker: Docker, id: string): Promise<number> {
  const { HostConfig } = await docker.getContainer(id).inspect();
  const pause = /^container:(.+)$/.exec(HostConfig.NetworkMode ?? "")?.[1];
  if (pause === undefined) throw new Error(`${id} joined no pause`);
  return (await memoryMib(docker, id)) + (await memoryMib(docker, pause));
}

async function memoryMib(docker: Docker, id: string): Promise<number> {
  const { memory_stats: memory } = await docker.getContainer(id).stats({ stream: false });
  const facts: Readonly<Record<string, number>> = { ...memory.stats };
  // cgroups 1 and 2.
  const reclaimable = facts["total_inactive_file"] ?? facts["inactive_file"] ?? 0;
  return (memory.usage - reclaimable) / MIB;
}
