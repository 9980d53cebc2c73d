import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

interface ProcessEntry {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
}

/** What belongs to a run: its process group, its session, and whoever carries its mark. */
export interface ProcessScope {
  /** Pid, group and session of the program that the run started. */
  readonly leader: number;
  /** Value of {@link RUN_MARK} in the environment of what the run started. */
  readonly runId: string;
  /** Whether everything but harnessd and its ancestors belongs to the run. */
  readonly everything: boolean;
}

/** Every child of a run carries its id under this name, so that daemonised ones are found again. */
export const RUN_MARK = "HARNESS_RUN_ID";

const POLL_MS = 20;
const KILL_WAIT_MS = 2000;

/**
 * Ends a run's processes: SIGTERM, up to `graceMs`, then SIGKILL until none is left.
 *
 * @returns how many are still there (0 unless one of them can't be killed)
 */
export async function endProcesses(scope: ProcessScope, graceMs: number): Promise<number> {
  await signalAll(scope, "SIGTERM");
  if ((await waitGone(scope, graceMs)) === 0) return 0;
  const deadline = Date.now() + KILL_WAIT_MS;
  for (;;) {
    // Again and again: what forks while it is being killed is caught by the next round.
    await signalAll(scope, "SIGKILL");
    const left = await waitGone(scope, POLL_MS * 2);
    if (left === 0 || Date.now() > deadline) return left;
  }
}

/** How many of a run's processes live. */
export async function countProcesses(scope: ProcessScope): Promise<number> {
  return (await members(scope)).length;
}

async function waitGone(scope: ProcessScope, waitMs: number): Promise<number> {
  const deadline = Date.now() + waitMs;
  for (;;) {
    const left = await countProcesses(scope);
    if (left === 0 || Date.now() >= deadline) return left;
    await sleep(POLL_MS);
  }
}

async function signalAll(scope: ProcessScope, signal: "SIGTERM" | "SIGKILL"): Promise<void> {
  send(-scope.leader, signal);
  for (const pid of await members(scope)) send(pid, signal);
}

function send(pid: number, signal: "SIGTERM" | "SIGKILL"): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone already, or not ours to end; what is left is counted afterwards.
  }
}

async function members(scope: ProcessScope): Promise<number[]> {
  const all = await listProcesses();
  const own = ancestors(all);
  const found: number[] = [];
  for (const entry of all) {
    if (own.has(entry.pid)) continue;
    const related = entry.group === scope.leader || entry.session === scope.leader;
    if (scope.everything || related || (await isMarked(entry.pid, scope.runId))) {
      found.push(entry.pid);
    }
  }
  return found;
}

function ancestors(all: readonly ProcessEntry[]): Set<number> {
  const parents = new Map(all.map((entry) => [entry.pid, entry.parent]));
  const own = new Set<number>([1]);
  for (let pid: number | undefined = process.pid; pid && !own.has(pid); pid = parents.get(pid)) {
    own.add(pid);
  }
  return own;
}

async function isMarked(pid: number, runId: string): Promise<boolean> {
  const environ = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
  return `\0${environ}`.includes(`\0${RUN_MARK}=${runId}\0`);
}

async function listProcesses(): Promise<ProcessEntry[]> {
  const names = await readdir("/proc").catch(() => [] as string[]);
  const entries = await Promise.all(
    names.filter((name) => /^\d+$/.test(name)).map((name) => readStat(Number(name))),
  );
  return entries.filter((entry) => entry !== undefined);
}

/** Undefined for what is gone and for zombies: they hold nothing and run nothing. */
async function readStat(pid: number): Promise<ProcessEntry | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "");
  // The name stands in parentheses and may hold anything; the fields begin behind the last one.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, parent, group, session] = fields;
  if (!state || state === "Z" || state === "X") return undefined;
  return { pid, parent: Number(parent), group: Number(group), session: Number(session) };
}
