import { access, mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface CgroupLimits {
  readonly memoryMib: number;
  readonly cpus: number;
  readonly pids: number;
}

const MOUNT = "/sys/fs/cgroup";
const PARENT = "deco-link";
const CPU_PERIOD_US = 100_000;

/**
 * Makes cgroups of its own for one sandbox, version 2 or 1, with limits on memory, CPU and pids.
 *
 * @returns their directories: a process joins by writing its pid to `cgroup.procs` in each
 * @throws when this machine or user can't limit memory and pids
 */
export async function makeCgroups(name: string, limits: CgroupLimits): Promise<string[]> {
  const unified = await exists(join(MOUNT, "cgroup.controllers"));
  return unified ? await makeUnified(name, limits) : await makeLegacy(name, limits);
}

async function makeUnified(name: string, limits: CgroupLimits): Promise<string[]> {
  const directory = join(MOUNT, PARENT, name);
  await mkdir(directory, { recursive: true });
  for (const above of [MOUNT, join(MOUNT, PARENT)]) {
    await writeFile(join(above, "cgroup.subtree_control"), "+memory +pids +cpu");
  }
  const quota = Math.round(limits.cpus * CPU_PERIOD_US);
  await writeFile(join(directory, "memory.max"), bytesOf(limits));
  await optional(join(directory, "memory.swap.max"), "0");
  await writeFile(join(directory, "pids.max"), String(limits.pids));
  await optional(join(directory, "cpu.max"), `${quota} ${CPU_PERIOD_US}`);
  return [directory];
}

async function makeLegacy(name: string, limits: CgroupLimits): Promise<string[]> {
  const make = async (controller: string) => {
    const directory = join(MOUNT, controller, PARENT, name);
    await mkdir(directory, { recursive: true });
    return directory;
  };
  const memory = await make("memory");
  await writeFile(join(memory, "memory.limit_in_bytes"), bytesOf(limits));
  await optional(join(memory, "memory.memsw.limit_in_bytes"), bytesOf(limits));
  const pids = await make("pids");
  await writeFile(join(pids, "pids.max"), String(limits.pids));
  const cpu = await make("cpu").catch(() => undefined);
  if (cpu === undefined) return [memory, pids];
  await optional(join(cpu, "cpu.cfs_period_us"), String(CPU_PERIOD_US));
  await optional(join(cpu, "cpu.cfs_quota_us"), String(Math.round(limits.cpus * CPU_PERIOD_US)));
  return [memory, pids, cpu];
}

/** Removes cgroups whose processes are gone; the kernel lets go of them a moment later. */
export async function removeCgroups(directories: readonly string[]): Promise<void> {
  for (const directory of directories) {
    for (let attempt = 0; attempt < 100; attempt++) {
      const code = await rmdir(directory).then(
        () => undefined,
        (thrown: NodeJS.ErrnoException) => thrown.code,
      );
      if (code !== "EBUSY") break;
      await sleep(20);
    }
    // Goes when the last of ours has gone.
    await rmdir(dirname(directory)).catch(() => undefined);
  }
}

/** Pids in a cgroup: what left its namespaces, but not its limits, is found as well. */
export async function cgroupPids(directories: readonly string[]): Promise<number[]> {
  const lists = await Promise.all(
    directories.map((directory) =>
      readFile(join(directory, "cgroup.procs"), "utf8").catch(() => ""),
    ),
  );
  const pids = lists.flatMap((list) => list.split("\n")).filter((line) => line !== "");
  return [...new Set(pids)].map(Number);
}

/** Cgroups whose name begins so: for tests and for clean-up after a crash. */
export async function findCgroups(prefix: string): Promise<string[]> {
  const controllers = ["", "memory", "pids", "cpu"].map((name) => join(MOUNT, name, PARENT));
  const found = await Promise.all(
    controllers.map(async (parent) =>
      (await readdir(parent).catch(() => []))
        .filter((name) => name.startsWith(prefix))
        .map((name) => join(parent, name)),
    ),
  );
  return found.flat();
}

const bytesOf = ({ memoryMib }: CgroupLimits) => String(memoryMib * 1024 * 1024);

async function optional(path: string, value: string): Promise<void> {
  await writeFile(path, value).catch(() => undefined);
}

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );
