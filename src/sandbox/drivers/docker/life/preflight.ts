import { readdir, readFile, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { DecoError } from "../../../../protocol/errors.ts";
import { configMissing } from "../../../config-missing.ts";
import { hostPlatform } from "../../../images/target.ts";
import { sameOwner } from "../../../owner.ts";
import type { WantedSandbox } from "../../../sandbox-spec.ts";
import type { Platform } from "../../../templates/template.ts";
import { type Engine, orMissing } from "../engine/engine.ts";
import type { Job } from "../job.ts";
import { LABELS } from "../names.ts";

/** MiB that must be free: a container writes its layer and log there, a run directory is small. */
const NEEDED_MIB = { engine: 100, runRoot: 8 } as const;

/**
 * What is checked before anything is pulled, built or made. The image and its platform are checked
 * where the image is found; variables that a template requires, where it is resolved.
 *
 * @returns whether the workspace's volume is there already
 * @throws storage_failed (no room), isolation_unavailable (nothing emulates the platform, more memory
 * than there is),
 * config_missing, docker_unavailable; each with the command that mends it
 */
export async function preflight(job: Job): Promise<{ hasVolume: boolean }> {
  const { setup, names, wanted, signal } = job;
  checkMemory(wanted, setup.seen.memoryMib);
  const volume = setup.engine.call(
    "inspect a volume",
    (docker) => docker.getVolume(names.volume).inspect(),
    { signal },
  );
  const [found] = await Promise.all([
    orMissing(volume),
    checkEngineDisk(setup.seen.rootDir, setup.engineDiskMib),
    checkRunRoot(setup.runRoot),
    wanted.platform && checkEmulation(wanted.platform),
  ]);
  const hasVolume = found !== undefined;
  // What a sandbox that lost its container left is still its owner's.
  sameOwner(job.handle, found?.Labels?.[LABELS.owner], job.context.owner);
  await checkSources(wanted, hasVolume);
  return { hasVolume };
}

/** More than there is would be no limit. An engine refuses that of CPUs by itself. */
export function checkMemory(
  { memoryMib = 0 }: { readonly memoryMib?: number | undefined },
  hasMib = Number.POSITIVE_INFINITY,
): void {
  if (memoryMib <= hasMib) return;
  const detail = `${memoryMib} MiB of memory on a machine of ${hasMib} MiB`;
  throw new DecoError("isolation_unavailable", detail, {
    fix: `Ask for at most ${hasMib} MiB: \`resources.memoryMib\` of the request or its template.`,
  });
}

/**
 * Where the engine keeps its images and containers. One in a VM has a disk of its own, which can't
 * be looked at from here.
 */
export async function checkEngineDisk(
  rootDir: string | undefined,
  neededMib: number = NEEDED_MIB.engine,
): Promise<void> {
  const free = rootDir === undefined ? undefined : await freeMib(rootDir);
  if (free === undefined || free >= neededMib) return;
  const detail = `${rootDir} of the Docker engine has ${free} MiB free, a sandbox needs ${neededMib}`;
  throw new DecoError("storage_failed", detail, {
    fix: "Make room on the engine's disk: `docker system df` shows what is there, `docker system prune` removes what is unused.",
  });
}

/** Run directories hold a token and two sockets each. */
export async function checkRunRoot(runRoot: string): Promise<void> {
  const free = await freeMib(runRoot);
  if (free === undefined || free >= NEEDED_MIB.runRoot) return;
  const detail = `${runRoot} has ${free} MiB free, a sandbox needs ${NEEDED_MIB.runRoot}`;
  throw new DecoError("storage_failed", detail, {
    fix: `Make room there: \`du -sh ${runRoot}\` and \`deco sandbox prune\` show what is in it.`,
  });
}

/** Undefined where there is no such folder. */
async function freeMib(path: string): Promise<number | undefined> {
  const found = await statfs(path).catch(() => undefined);
  return found && Math.floor((found.bavail * found.bsize) / 1024 / 1024);
}

const BINFMT = "/proc/sys/fs/binfmt_misc";
const INTERPRETERS: Readonly<Record<Platform, RegExp>> = {
  "linux/amd64": /^(qemu-x86_64|rosetta)/,
  "linux/arm64": /^qemu-aarch64/,
};

/**
 * A platform that was asked for by name and is not this machine's needs an interpreter in the
 * kernel. Only Linux can be asked: the VMs of Docker Desktop and OrbStack bring theirs along.
 *
 * @throws isolation_unavailable
 */
export async function checkEmulation(platform: Platform, folder = BINFMT): Promise<void> {
  if (platform === hostPlatform() || process.platform !== "linux") return;
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter((one) => INTERPRETERS[platform].test(one))) {
    const text = await readFile(join(folder, name), "utf8").catch(() => "");
    if (text.startsWith("enabled")) return;
  }
  const arch = platform.slice("linux/".length);
  throw new DecoError("isolation_unavailable", `nothing on this machine emulates ${platform}`, {
    fix: `Run \`docker run --privileged --rm tonistiigi/binfmt --install ${arch}\`, or take ${hostPlatform()}.`,
  });
}

/**
 * Files that must be there come from the template's own, from a folder of the host, or from a volume
 * that is there; the last is looked into by {@link checkWorkspace}, when it hangs in its container.
 */
async function checkSources(wanted: WantedSandbox, hasVolume: boolean): Promise<void> {
  const { mode, path } = wanted.workspace;
  const missing: string[] = [];
  for (const file of wanted.requires.files) {
    if (Object.hasOwn(wanted.files, file)) continue;
    const onHost = mode === "read_only" || mode === "read_write";
    if (onHost && path !== undefined && !(await isFile(join(path, file)))) missing.push(file);
    if (mode === "none" && !hasVolume) missing.push(file);
  }
  if (missing.length > 0) throw configMissing(missing, mode === "none" ? undefined : path);
}

/**
 * The last look before a start, also before one that is not the first: whoever wiped a volume gets
 * to know it now, instead of a harness that ends again and again (LESSONS 33).
 *
 * @throws config_missing
 */
export async function checkWorkspace(job: Job): Promise<void> {
  const { mode } = job.wanted.workspace;
  // Both are filled after the start.
  if (mode === "git" || mode === "archive") return;
  const missing: string[] = [];
  for (const file of job.wanted.requires.files) {
    // The template's own are brought in after the start.
    if (Object.hasOwn(job.wanted.files, file)) continue;
    const there = await isInside(job.setup.engine, job.names.container, file, job.signal);
    if (!there) missing.push(file);
  }
  if (missing.length > 0) throw configMissing(missing);
}

/** The engine answers for containers that do not run as well. */
async function isInside(engine: Engine, name: string, file: string, signal: AbortSignal) {
  const path = `/workspace/${file}`;
  const work = engine.call(
    "look for a file",
    (docker) => docker.getContainer(name).infoArchive({ path }),
    { signal },
  );
  return (await orMissing(work.then(() => true))) ?? false;
}

async function isFile(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() === true;
}
