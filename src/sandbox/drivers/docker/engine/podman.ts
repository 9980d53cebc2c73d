import { readFile } from "node:fs/promises";
import type Dockerode from "dockerode";

/**
 * The same container in Podman's words. It knows no owner of a tmpfs, so that only its mode lets the
 * sandbox's user in (inside there is no other user to keep out). And what no limit is given for it
 * sets to its own, which may be above this machine's: then nothing starts.
 *
 * @param limitsFile the kernel's own table of a process's limits
 */
export async function inPodmanWords(
  options: Dockerode.ContainerCreateOptions,
  limitsFile = "/proc/self/limits",
): Promise<Dockerode.ContainerCreateOptions> {
  const { HostConfig = {} } = options;
  const tmpfs: Readonly<Record<string, string>> = HostConfig.Tmpfs ?? {};
  const owned = Object.entries(tmpfs)
    .filter(([path]) => path !== UNDER_RUN)
    .map(([path, words]) => [path, withoutOwner(words)] as const);
  const limits = await readFile(limitsFile, "utf8").catch(() => "");
  const Ulimits = [
    ...(HostConfig.Ulimits ?? []),
    ...hardLimit(limits, "nofile", "Max open files"),
    ...hardLimit(limits, "nproc", "Max processes"),
  ];
  return {
    ...options,
    Env: [...(options.Env ?? []), `HARNESS_DATA=${DATA}`],
    HostConfig: { ...HostConfig, Tmpfs: Object.fromEntries(owned), Ulimits },
  };
}

/** With a read-only root it puts a tmpfs of its own on /run, and whatever is under it is root's. */
const UNDER_RUN = "/run/harnessd";
const DATA = "/tmp/.harnessd";

function withoutOwner(words: string): string {
  const all = words.split(",");
  const kept = all.filter((word) => !/^[ug]id=/.test(word));
  if (kept.length === all.length) return words;
  const opened = kept.map((word) => (word.startsWith("mode=") ? "mode=1777" : word));
  // Else it takes the image's folder over, with its owner and mode.
  return [...opened, "notmpcopyup"].join(",");
}

/** What Podman's service gives itself, and can pass on: the kernel's default of process ids, and of files. */
const HIGHEST = { nofile: 1_048_576, nproc: 32_768 } as const;

function hardLimit(limits: string, Name: keyof typeof HIGHEST, title: string): Dockerode.Ulimit[] {
  const hard = new RegExp(`^${title}\\s+\\S+\\s+(\\d+)`, "m").exec(limits)?.[1];
  if (hard === undefined) return [];
  const limit = Math.min(Number(hard), HIGHEST[Name]);
  return [{ Name, Soft: limit, Hard: limit }];
}
