import { readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { cgroupPids, findCgroups, removeCgroups } from "./cgroups.ts";
import { hostProcess, signalTo } from "./proc.ts";

/** Beginning of the names of what a probe of this process makes: whose it is can be told from it. */
export function probeMark(instanceId: string, pid: number = process.pid): string {
  return `${instanceMark(instanceId)}${pid}-`;
}

/** Takes away what probes of daemons of this instance left behind when they were killed at it. */
export async function sweepProbes(instanceId: string): Promise<void> {
  const mark = instanceMark(instanceId);
  const isOrphan = async (name: string) => {
    const pid = name.startsWith(mark) ? Number(name.slice(mark.length).split("-")[0]) : Number.NaN;
    return pid > 0 && (await hostProcess(pid)) === undefined;
  };
  for (const group of await findCgroups(mark)) {
    if (!(await isOrphan(basename(group)))) continue;
    for (const pid of await cgroupPids([group])) signalTo(pid, "SIGKILL");
    await removeCgroups([group]);
  }
  for (const name of await readdir(tmpdir()).catch(() => [])) {
    if (!name.startsWith("deco-") || !(await isOrphan(name.slice("deco-".length)))) continue;
    await rm(join(tmpdir(), name), { recursive: true, force: true });
  }
}

function instanceMark(instanceId: string): string {
  return `probe-${instanceId.replace(/[^a-zA-Z0-9]/g, "")}-`;
}
