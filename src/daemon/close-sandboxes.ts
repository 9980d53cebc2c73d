import type { SandboxProvider } from "../sandbox/provider.ts";
import type { Log } from "./log.ts";

export interface RemoveIdleOptions {
  readonly providers: readonly SandboxProvider[];
  readonly busy: (handle: string) => boolean;
  readonly remove: (p: SandboxProvider, handle: string, signal: AbortSignal) => Promise<void>;
  readonly log: Log;
  readonly deadlineMs?: number;
}

/** Sandboxes of runs without a thread; nobody comes back to them. */
const THREADLESS = /^r-[0-9a-f]{16}$/;
const DEADLINE_MS = 15_000;

/** Whether no thread comes back to a sandbox of this name. */
export function isThreadless(handle: string): boolean {
  return THREADLESS.test(handle);
}

/** Removes what a clean stop need not leave behind. What can't be removed now stays, and is told. */
export async function removeIdleSandboxes(options: RemoveIdleOptions): Promise<void> {
  const { providers, busy, remove, log, deadlineMs = DEADLINE_MS } = options;
  const signal = AbortSignal.timeout(deadlineMs);
  const failed = (error: unknown) => {
    log.warn({ err: error }, "idle sandboxes stay; `deco sandbox rm` removes them");
  };
  const one = async (provider: SandboxProvider) => {
    const found = await provider.list(signal);
    const idle = found.filter(({ handle }) => isThreadless(handle) && !busy(handle));
    await Promise.all(idle.map(({ handle }) => remove(provider, handle, signal)));
  };
  await Promise.all(providers.map((provider) => one(provider).catch(failed)));
}
