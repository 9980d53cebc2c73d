import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** Resident memory of a process in MiB. @throws when it has ended */
export function rssMib(pid: number): number {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib) / 1024;
}

/** Programs of that path that see something of a folder in their mounts, such as a sandbox's. */
export function findPids(program: string, folder: string): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    const read = (name: string) => quiet(() => readFileSync(`/proc/${pid}/${name}`, "utf8")) ?? "";
    return read("cmdline").split("\0")[0] === program && read("mountinfo").includes(folder);
  });
}

/** Bytes on disk of the files in a folder whose names match; 0 where there is none. */
export function bytesIn(folder: string, name: RegExp): number {
  const names = quiet(() => readdirSync(folder, { recursive: true, encoding: "utf8" })) ?? [];
  return names
    .filter((path) => name.test(path))
    .reduce((sum, path) => sum + (quiet(() => statSync(join(folder, path)).size) ?? 0), 0);
}

/** Processes and files come and go while one looks. */
function quiet<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
