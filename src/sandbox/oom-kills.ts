import { readFile } from "node:fs/promises";
import { join } from "node:path";

const MOUNT = "/sys/fs/cgroup";
/** Of version 2, and of version 1. */
const COUNTERS = ["memory.events", "memory.oom_control"];
const LIMITS = ["memory.max", "memory.limit_in_bytes"];

/**
 * How often the kernel ended something in these cgroups for lack of memory. 0 where it does not tell.
 *
 * @param directories all that one sandbox has; version 1 counts in that of the memory controller
 */
export async function oomKills(directories: readonly string[]): Promise<number> {
  const files = directories.flatMap((directory) => COUNTERS.map((name) => join(directory, name)));
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8").catch(() => "")));
  return Math.max(0, ...texts.map((text) => Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0)));
}

/**
 * The same of the cgroups that a process is in, 0 also where it is none of the container's: another
 * machine's process may have the number.
 */
export async function oomKillsAround(pid: number, containerId: string): Promise<number> {
  const text = await readFile(`/proc/${pid}/cgroup`, "utf8").catch(() => "");
  const paths = text.split("\n").flatMap((line) => {
    const [, controllers = "", path] = /^\d+:([^:]*):(.+)$/.exec(line) ?? [];
    if (path?.includes(containerId) !== true) return [];
    if (controllers === "") return join(MOUNT, path);
    return controllers === "memory" ? join(MOUNT, controllers, path) : [];
  });
  return await oomKills(paths);
}

/** The smallest limit on memory that these cgroups have; 0 for none. */
export async function memoryLimitMib(directories: readonly string[]): Promise<number> {
  const files = directories.flatMap((directory) => LIMITS.map((name) => join(directory, name)));
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8").catch(() => "")));
  const limits = texts.map(Number.parseFloat).filter((bytes) => Number.isFinite(bytes));
  return limits.length === 0 ? 0 : Math.round(Math.min(...limits) / 2 ** 20);
}
