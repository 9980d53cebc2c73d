import { setTimeout as sleep } from "node:timers/promises";
import type { RunDir } from "../../run-dir.ts";
import { cgroupPids, findCgroups, removeCgroups } from "./cgroups.ts";
import { lives, signalTo } from "./proc.ts";
import { type ProcessFacts, processStrangers, residents } from "./process-look.ts";
import { cgroupName } from "./process-options.ts";

const ROUNDS = 50;

/**
 * Ends everything but init and harnessd. What is found is stopped first and looked for again until
 * nothing new appears: a stopped process forks no more, so even a fork bomb is caught whole.
 *
 * @returns how many are left, by a new look
 */
export async function killProcessStrangers(
  facts: ProcessFacts,
  dir: RunDir,
  signal: AbortSignal,
): Promise<number> {
  const stopped = new Set<number>();
  for (let round = 0; round < ROUNDS; round++) {
    const fresh = (await processStrangers(facts, dir)).filter(({ pid }) => !stopped.has(pid));
    if (fresh.length === 0) break;
    for (const { pid } of fresh) {
      signalTo(pid, "SIGSTOP");
      stopped.add(pid);
    }
  }
  for (let wait = 5; wait < 1_000; wait *= 2) {
    const left = await processStrangers(facts, dir);
    if (left.length === 0) return 0;
    for (const { pid } of left) signalTo(pid, "SIGKILL");
    await sleep(wait, undefined, { signal });
  }
  return (await processStrangers(facts, dir)).length;
}

/** Ends a whole sandbox: with its pid 1 the kernel ends all of its namespace. Waits until gone. */
export async function endSandbox(
  facts: ProcessFacts,
  dir: RunDir,
  signal: AbortSignal,
): Promise<void> {
  await endNoted(facts.initPid, facts.initStart);
  await endNoted(facts.pid, facts.start);
  for (let wait = 5; ; wait = Math.min(wait * 2, 100)) {
    const left = [
      ...(await residents(facts, dir)).map(({ pid }) => pid),
      ...(await cgroupPids(facts.cgroups)),
    ];
    if (left.length === 0) break;
    for (const pid of left) signalTo(pid, "SIGKILL");
    await sleep(wait, undefined, { signal });
  }
  await removeCgroups(facts.cgroups);
}

/** Ends what still runs of a sandbox whose record is lost, with its run directory for example. */
export async function endForgotten(
  instanceId: string,
  dir: RunDir,
  signal: AbortSignal,
): Promise<void> {
  const name = cgroupName(instanceId, dir);
  const cgroups = (await findCgroups(name)).filter((path) => path.endsWith(`/${name}`));
  if (cgroups.length > 0) await endSandbox({ confined: true, cgroups, spared: [] }, dir, signal);
}

/** Only the very process that was noted: a pid alone may be someone else's by now. */
async function endNoted(pid: number | undefined, start: string | undefined): Promise<void> {
  if (pid !== undefined && start !== undefined && (await lives(pid, start))) {
    signalTo(pid, "SIGKILL");
  }
}
