import { readdir, readFile } from "node:fs/promises";
import { docker } from "./e2e-lab.ts";

/** SIGKILL for the harnessd of a sandbox, looked up from outside: below its first process. */
export async function killHarnessd(provider: string, id: string): Promise<void> {
  const root = await firstProcess(provider, id);
  const pid = (await family(root)).find(({ command }) => command.includes("harnessd"))?.pid;
  if (pid === undefined) throw new Error(`no harnessd below ${root}`);
  process.kill(pid, "SIGKILL");
}

async function firstProcess(provider: string, id: string): Promise<number> {
  if (provider === "process") return Number(id.split(".")[0]);
  return Number(await docker("inspect", "-f", "{{.State.Pid}}", id));
}

interface Member {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

/** The process and all below it, the deepest last; init of a sandbox only names what it runs. */
async function family(root: number): Promise<Member[]> {
  const names = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const all = (await Promise.all(names.map(member))).filter((one) => one !== undefined);
  const found = all.filter(({ pid }) => pid === root);
  for (const { pid } of found) found.push(...all.filter(({ parent }) => parent === pid));
  return found.filter(({ command }) => !/init|unshare|setpriv/.test(command));
}

async function member(name: string): Promise<Member | undefined> {
  try {
    const stat = await readFile(`/proc/${name}/stat`, "utf8");
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 4).split(" ")[0]);
    const command = (await readFile(`/proc/${name}/cmdline`, "utf8")).split("\0")[0] ?? "";
    return { pid: Number(name), parent, command };
  } catch {
    return undefined;
  }
}
