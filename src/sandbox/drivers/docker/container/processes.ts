import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { Engine } from "../engine/engine.ts";

/** A process in a container, as the engine's host numbers it. */
export interface EngineProcess {
  readonly pid: number;
  readonly parent: number;
  readonly args: string;
}

interface Target {
  readonly engine: Engine;
  readonly containerId: string;
  /** Pids of init and harnessd, noted when the sandbox became ready and nothing else ran. */
  readonly spared: ReadonlySet<number>;
  readonly uid: number;
  /** Whether the host's processes are seen inside: then nothing may be ended by a look from there. */
  readonly hostPids: boolean;
  readonly signal: AbortSignal;
}

const ROUNDS = 8;

/** The engine's own list of what lives in a container; zombies are dead. */
export async function topProcesses(
  engine: Engine,
  containerId: string,
  signal: AbortSignal,
): Promise<EngineProcess[]> {
  const answer: unknown = await engine.call(
    "list processes",
    (docker) => docker.getContainer(containerId).top({ ps_args: "-eo pid,ppid,stat,args" }),
    { signal },
  );
  return rowsOf(answer).flatMap(([pid, parent, stat, ...args]) =>
    stat === undefined || stat.startsWith("Z")
      ? []
      : [{ pid: Number(pid), parent: Number(parent), args: args.join(" ") }],
  );
}

/**
 * Init and its children. By the kernel's own list where engine and daemon share one, which takes no
 * time; else the engine's, for which it starts a `ps`.
 */
export async function ownPids(
  engine: Engine,
  { id, initPid }: { id: string; initPid: number },
  signal: AbortSignal,
): Promise<number[]> {
  const children = await readFile(`/proc/${initPid}/task/${initPid}/children`, "utf8").catch(
    () => "",
  );
  const pids = children.trim().split(" ").filter(Boolean).map(Number);
  // Read after the list: it shows that the pid has not become another program's meanwhile.
  if (pids.length > 0 && (await isIn(initPid, id))) return [initPid, ...pids];
  const all = await topProcesses(engine, id, signal);
  return all.filter(({ pid, parent }) => pid === initPid || parent === initPid).map((p) => p.pid);
}

async function isIn(pid: number, containerId: string): Promise<boolean> {
  const cgroup = await readFile(`/proc/${pid}/cgroup`, "utf8").catch(() => "");
  return cgroup.includes(containerId);
}

function rowsOf(answer: unknown): string[][] {
  if (typeof answer !== "object" || answer === null || !("Processes" in answer)) return [];
  const { Processes: rows } = answer;
  if (!Array.isArray(rows)) return [];
  return rows.filter((row): row is string[] => Array.isArray(row));
}

/** What lives besides init and harnessd. */
export async function strangers(target: Target): Promise<EngineProcess[]> {
  const all = await topProcesses(target.engine, target.containerId, target.signal);
  return all.filter((process) => !target.spared.has(process.pid));
}

/**
 * Ends everything but init and harnessd, SIGKILL at once: what ignores SIGTERM, left its process
 * group or was forked twice is ended as well. From the second round on the container is frozen
 * meanwhile, so that nothing can fork away.
 *
 * @returns how many are left, by a new look
 */
export async function killStrangers(target: Target): Promise<number> {
  let left = await strangers(target);
  for (let round = 0; round < ROUNDS && left.length > 0; round++) {
    if (round === 0) await killAll(target, left);
    else await frozen(target, async () => killAll(target, await strangers(target)));
    for (let wait = 5; wait < 100; wait *= 2) {
      left = await strangers(target);
      if (left.length === 0) return 0;
      await sleep(wait, undefined, { signal: target.signal });
    }
  }
  return left.length;
}

async function frozen(target: Target, work: () => Promise<void>): Promise<void> {
  const { engine, containerId, signal } = target;
  // Engines without a freezer still get the plain attempts.
  const paused = await engine
    .call("pause", (docker) => docker.getContainer(containerId).pause(), { signal })
    .then(
      () => true,
      () => false,
    );
  try {
    await work();
  } finally {
    if (paused) {
      await engine.call("unpause", (docker) => docker.getContainer(containerId).unpause(), {
        signal: AbortSignal.timeout(20_000),
      });
    }
  }
}

async function killAll(target: Target, processes: readonly EngineProcess[]): Promise<void> {
  const direct = await Promise.all(processes.map(({ pid }) => killHere(pid, target.containerId)));
  if (!direct.every(Boolean)) await killInside(target, processes);
}

/** Kills by host pid where engine and daemon share a kernel and the daemon may; else false. */
export async function killHere(pid: number, containerId: string): Promise<boolean> {
  // Also guards against a pid that was given to another program in the meantime.
  if (!(await isIn(pid, containerId))) return false;
  try {
    process.kill(pid, "SIGKILL");
    return true;
  } catch (thrown) {
    return thrown instanceof Error && "code" in thrown && thrown.code === "ESRCH";
  }
}

/**
 * For engines in a VM: a shell inside kills what is neither init, nor harnessd, nor itself. One that
 * sees the host's processes kills these pids alone, and of those what is in the container's cgroup.
 */
async function killInside(target: Target, found: readonly EngineProcess[]): Promise<void> {
  const { engine, containerId, uid, hostPids, signal } = target;
  const pids = found.map(({ pid }) => pid).join(" ");
  const these = `for n in ${pids}; do
    grep -q ${containerId} /proc/$n/cgroup && kill -9 "$n"; done 2>/dev/null`;
  const all = `for p in /proc/[0-9]*; do
    n=\${p#/proc/}; [ "$n" = 1 ] || [ "$n" = $$ ] && continue
    [ "$(readlink $p/exe)" = /usr/local/bin/harnessd ] && continue
    kill -9 "$n"; done 2>/dev/null`;
  await engine.call(
    "kill processes",
    async (docker) => {
      const exec = await docker.getContainer(containerId).exec({
        Cmd: ["/bin/sh", "-c", hostPids ? these : all],
        User: hostPids ? "0:0" : `${uid}:${uid}`,
        AttachStdout: false,
        AttachStderr: false,
      });
      await exec.start({ Detach: true });
    },
    { signal },
  );
  await sleep(50, undefined, { signal });
}
