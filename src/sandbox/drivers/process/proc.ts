import { readdir, readFile, readlink } from "node:fs/promises";

/** One line of /proc, as far as we need it. */
export interface HostProcess {
  readonly pid: number;
  readonly parent: number;
  readonly zombie: boolean;
  /** Clock ticks since boot: with the pid it names a process for good. */
  readonly start: string;
}

/** Undefined when there is none with that pid. */
export async function hostProcess(pid: number): Promise<HostProcess | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  if (stat === undefined) return undefined;
  // The name, in parentheses, may hold blanks and parentheses.
  const [state = "", parent = "", ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return {
    pid,
    parent: Number(parent),
    zombie: state === "Z" || state === "X",
    start: rest[17] ?? "",
  };
}

/** True while the very process that was noted lives. */
export async function lives(pid: number, start: string): Promise<boolean> {
  const found = await hostProcess(pid);
  return found !== undefined && !found.zombie && found.start === start;
}

export async function allProcesses(): Promise<HostProcess[]> {
  const names = await readdir("/proc");
  const found = await Promise.all(
    names.filter((name) => /^\d+$/.test(name)).map((name) => hostProcess(Number(name))),
  );
  return found.filter((process) => process !== undefined);
}

/** `pid:[4026531836]`; undefined when it is gone, or not ours to look at. */
export async function pidNamespace(pid: number): Promise<string | undefined> {
  return await readlink(`/proc/${pid}/ns/pid`).catch(() => undefined);
}

/** Every living process of a pid namespace. */
export async function membersOf(namespace: string): Promise<HostProcess[]> {
  const all = await allProcesses();
  const spaces = await Promise.all(all.map(({ pid }) => pidNamespace(pid)));
  return all.filter((process, i) => spaces[i] === namespace && !process.zombie);
}

/** Sends a signal; false when there is nothing to send it to. */
export function signalTo(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}
