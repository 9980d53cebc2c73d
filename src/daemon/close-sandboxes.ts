import type { SandboxInfo, SandboxProvider } from "../sandbox/provider.ts";
import type { Log } from "./log.ts";

export interface CloseSandboxesOptions {
  readonly providers: readonly SandboxProvider[];
  readonly busy: (handle: string) => boolean;
  readonly remove: (p: SandboxProvider, handle: string, signal: AbortSignal) => Promise<void>;
  readonly log: Log;
  readonly deadlineMs?: number;
}

/** A sandbox that a clean stop leaves in place. */
export interface KeptSandbox {
  readonly handle: string;
  /** Why something may go on in it: a run for the next daemon, or an engine that did not end it. */
  readonly goesOn?: "run" | "unknown";
}

/** Sandboxes of runs without a thread; nobody comes back to them. */
const THREADLESS = /^r-[0-9a-f]{16}$/;
const DEADLINE_MS = 15_000;

/** Whether no thread comes back to a sandbox of this name. */
export function isThreadless(handle: string): boolean {
  return THREADLESS.test(handle);
}

/**
 * Removes what a clean stop need not leave behind. A thread's sandbox stays, as its workspace is the
 * thread's, but is stopped: who ends the program expects nothing of it to run on, harnessd included; where a run works everything stays as it is, for the next
 * daemon. What can't be done in time is told in the answer.
 */
export async function closeSandboxes(options: CloseSandboxesOptions): Promise<KeptSandbox[]> {
  const { providers, log, deadlineMs = DEADLINE_MS } = options;
  const signal = AbortSignal.timeout(deadlineMs);
  const all = async (provider: SandboxProvider) => {
    const found = await provider.list(signal);
    const kept = await Promise.all(found.map((info) => one(options, provider, info, signal)));
    return kept.flat();
  };
  const kept = await Promise.all(
    providers.map((provider) =>
      all(provider).catch((error: unknown) => {
        log.warn({ err: error, provider: provider.name }, "its sandboxes stay as they are");
        return [];
      }),
    ),
  );
  return kept.flat();
}

/** Ends what providers keep for no sandbox of theirs. What can't be done in time, the next daemon does. */
export async function closeProviders(
  providers: readonly SandboxProvider[],
  log: Log,
  deadlineMs = DEADLINE_MS,
): Promise<void> {
  const signal = AbortSignal.timeout(deadlineMs);
  const close = async (provider: SandboxProvider) => {
    try {
      await provider.close?.(signal);
    } catch (error) {
      log.warn({ err: error, provider: provider.name }, "what was made ahead stays for now");
    }
  };
  await Promise.all(providers.map(close));
}

async function one(
  { busy, remove, log }: CloseSandboxesOptions,
  provider: SandboxProvider,
  { handle, status }: SandboxInfo,
  signal: AbortSignal,
): Promise<KeptSandbox[]> {
  if (busy(handle)) return [{ handle, goesOn: "run" }];
  try {
    if (isThreadless(handle)) {
      await remove(provider, handle, signal);
      return [];
    }
    if (status === "stopped") return [{ handle }];
    if (provider.stop !== undefined) {
      await provider.stop(handle, signal);
      return [{ handle }];
    }
    const left = await provider.killProcesses(handle, signal);
    return [left === 0 ? { handle } : { handle, goesOn: "unknown" }];
  } catch (error) {
    log.warn({ err: error, handle }, "the sandbox stays as it is");
    return [{ handle, goesOn: "unknown" }];
  }
}
