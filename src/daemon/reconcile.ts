import type { SandboxInfo, SandboxProvider } from "../sandbox/provider.ts";
import { createIdleSandboxes } from "./idle-sandboxes.ts";
import type { IdleTimes } from "./idle-times.ts";
import type { Log } from "./log.ts";
import { reapOrphans } from "./reap-orphans.ts";

export interface ReconcileOptions {
  /** Those that may hold sandboxes of ours; they list this instance's alone. */
  readonly providers: () => readonly SandboxProvider[];
  /** Whether a run works, or waits to work, in this sandbox. */
  readonly busy: (handle: string) => boolean;
  readonly remove: (p: SandboxProvider, handle: string, signal: AbortSignal) => Promise<void>;
  /** Ends the runs whose sandbox is surely gone; gives their number. */
  readonly failLost: (signal: AbortSignal) => Promise<number>;
  /** Sandboxes without a thread that stay for a look at them; 4 when absent. */
  readonly keep?: number;
  /** How long they stay at most; 15 when absent. */
  readonly idleMinutes?: number;
  /** Where idle times outlive the daemon; nowhere when absent. */
  readonly times?: IdleTimes;
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
  /** Volumes, networks and directories without a sandbox, removed since the daemon started. */
  readonly reaped: number;
  /** Runs ended as `sandbox_lost` by a look since the daemon started. */
  readonly lost: number;
}

export interface Reconcile {
  /** One look, and what follows from it. Never throws. */
  once(signal: AbortSignal): Promise<void>;
  /** Removes the oldest idle ones above the limit: after each run's end. Never throws. */
  trim(signal: AbortSignal): Promise<void>;
  readonly counts: () => ReconcileCounts | undefined;
}

const LOOK_MS = 30_000;

/**
 * Compares what the engines hold with what runs and threads need. Removes only sandboxes without a
 * thread (`r-…`) that no run uses; a state that is not known destroys nothing (LESSONS 27, 35).
 */
export function createReconcile(options: ReconcileOptions): Reconcile {
  const { failLost, log, now = Date.now } = options;
  const idle = createIdleSandboxes(options);
  let counts: ReconcileCounts | undefined;
  let lost = 0;
  let reaped = 0;
  let trimming = Promise.resolve();

  const lookAt = async (provider: SandboxProvider, signal: AbortSignal) => {
    const found = await idle.removeDue(provider, signal);
    // An engine that does not answer says nothing of what has no sandbox, either.
    if (!found.some(({ status }) => status === "unknown")) {
      reaped += await reapOrphans(provider, options, signal);
    }
    return found;
  };
  const trimAfter = async (before: Promise<void>, outer: AbortSignal) => {
    await before;
    if (outer.aborted) return;
    const signal = AbortSignal.any([outer, AbortSignal.timeout(LOOK_MS)]);
    await idle.trim(signal).catch((error: unknown) => {
      if (!outer.aborted) log.warn({ err: error }, "idle sandboxes stay; again after a run");
    });
  };
  return {
    counts: () => counts,
    trim: (outer) => {
      // One after the other: two at once would each count what the other removes.
      trimming = trimAfter(trimming, outer);
      return trimming;
    },
    once: async (outer) => {
      const signal = AbortSignal.any([outer, AbortSignal.timeout(LOOK_MS)]);
      lost += await failLost(signal);
      const providers = options.providers();
      const looks = await Promise.allSettled(providers.map((one) => lookAt(one, signal)));
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
        removed: idle.removed(),
        reaped,
        lost,
      };
    },
  };
}
