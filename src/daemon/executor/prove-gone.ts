import { setTimeout as sleep } from "node:timers/promises";
import type { SandboxProvider } from "../../sandbox/provider.ts";
import type { Log } from "../log.ts";
import type { SandboxHost } from "./sandbox-host.ts";

const CALL_MS = 10_000;
/** After so many fruitless kills the sandbox itself goes. */
const KILLS = 3;

export interface ProveGone {
  readonly provider: SandboxProvider;
  readonly handle: string;
  readonly sandboxes: SandboxHost;
  readonly log: Log;
  /** Gives up only when the daemon leaves; the next one goes on. */
  readonly leaving: AbortSignal;
}

/**
 * Ends every process of a sandbox and looks until there is none (LESSONS 18): "I could not look"
 * is never taken for "nothing is left" (LESSONS 27).
 */
export async function proveGone(options: ProveGone): Promise<void> {
  const { provider, handle, log, leaving } = options;
  for (let round = 0; ; round++) {
    leaving.throwIfAborted();
    try {
      if (await tryOnce(options, round >= KILLS)) return;
    } catch (error) {
      leaving.throwIfAborted();
      log.warn({ err: error, handle, provider: provider.name }, "ending processes failed; again");
    }
    await sleep(Math.min(50 * 2 ** round, 5000), undefined, { signal: leaving });
  }
}

async function tryOnce(options: ProveGone, remove: boolean): Promise<boolean> {
  const { provider, handle, sandboxes, leaving } = options;
  const signal = AbortSignal.any([leaving, AbortSignal.timeout(CALL_MS)]);
  const info = await provider.inspect(handle, signal);
  if (info === undefined || info.status === "stopped") return true;
  if (remove) {
    await sandboxes.remove(provider, handle, signal);
    return false;
  }
  if (info.status === "unknown") return false;
  await provider.killProcesses(handle, signal);
  return (await provider.processesLeft(handle, signal)) === 0;
}
