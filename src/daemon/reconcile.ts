import type { SandboxInfo, SandboxProvider } from "../sandbox/provider.ts";
import { isThreadless } from "./close-sandboxes.ts";
import type { Log } from "./log.ts";

export interface ReconcileOptions {
  /** Those that may hold sandboxes of ours; they list this instance's alone. */
  readonly providers: () => readonly SandboxProvider[];
  /** Whether a run works, or waits to work, in this sandbox. */
  readonly busy: (handle: string) => boolean;
  readonly remove: (p: SandboxProvider, handle: string, signal: AbortSignal) => Promise<void>;
  /** Ends the runs whose sandbox is surely gone; gives their number. */
  readonly failLost: (signal: AbortSignal) => Promise<number>;
  readonly log: Log;
  readonly now?: () => number;
}

/** What the last look found and all of them did. */
export interface ReconcileCounts {
  /** RFC 3339. */
  readonly at: string;
  readonly running: number;
  readonly stopped: number;
  /** Engines that did not answer, and sandboxes whose state they don't know. */
  readonly unknown: number;
  /** Sandboxes removed since the daemon started. */
  readonly removed: number;
  /** Runs ended as `sandbox_lost` by a look since the daemon started. */
  readonly lost: number;
}

export interface Reconcile {
  /** One look, and what follows from it. Never throws. */
  once(signal: AbortSignal): Promise<void>;
  readonly counts: () => ReconcileCounts | undefined;
}

/** A sandbox that no thread comes back to stays so long after its run, for a look at its files. */
const IDLE_MS = 15 * 60_000;
/** A stopped one has nothing to look at; not at once, as somebody may be making it. */
const STOPPED_MS = 60_000;
const LOOK_MS = 30_000;

/**
 * Compares what the engines hold with what runs and threads need. Removes only sandboxes without a
 * thread (`r-…`) that no run uses; a state that is not known destroys nothing (LESSONS 27, 35).
 */
export function createReconcile(options: ReconcileOptions): Reconcile {
  const { busy, remove, failLost, log, now = Date.now } = options;
  /** When each was first seen idle, by provider and id: one that is made anew begins anew. */
  const idleSince = new Map<string, number>();
  let counts: ReconcileCounts | undefined;
  let removed = 0;
  let lost = 0;

  const isDue = (key: string, info: SandboxInfo): boolean => {
    if (info.status === "unknown") return false;
    if (!isThreadless(info.handle) || busy(info.handle)) {
      idleSince.delete(key);
      return false;
    }
    const since = idleSince.get(key) ?? now();
    idleSince.set(key, since);
    return now() - since >= (info.status === "stopped" ? STOPPED_MS : IDLE_MS);
  };
  const look = async (provider: SandboxProvider, signal: AbortSignal) => {
    const found = await provider.list(signal);
    for (const info of found) {
      const { handle, status, id, createdAt } = info;
      const key = `${provider.name}/${handle}/${id}`;
      if (!isDue(key, info)) continue;
      // Its run may have come while the engine was asked.
      if (busy(handle)) continue;
      await remove(provider, handle, signal);
      idleSince.delete(key);
      removed += 1;
      log.info({ handle, provider: provider.name, status, createdAt }, "nobody needs it: removed");
    }
    return found;
  };
  return {
    counts: () => counts,
    once: async (outer) => {
      const signal = AbortSignal.any([outer, AbortSignal.timeout(LOOK_MS)]);
      lost += await failLost(signal);
      const looks = await Promise.allSettled(options.providers().map((one) => look(one, signal)));
      if (outer.aborted) return;
      for (const one of looks) {
        if (one.status === "rejected") {
          log.warn({ err: one.reason }, "sandboxes could not be looked at; again in a minute");
        }
      }
      const found = looks.flatMap((one) => (one.status === "fulfilled" ? one.value : []));
      const silent = looks.filter((one) => one.status === "rejected").length;
      const count = (status: SandboxInfo["status"]) =>
        found.filter((info) => info.status === status).length;
      counts = {
        at: new Date(now()).toISOString(),
        running: count("running"),
        stopped: count("stopped"),
        unknown: count("unknown") + silent,
        removed,
        lost,
      };
    },
  };
}
