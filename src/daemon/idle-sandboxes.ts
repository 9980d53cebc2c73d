import type { SandboxInfo, SandboxProvider } from "../sandbox/provider.ts";
import { isThreadless } from "./close-sandboxes.ts";
import { idleSince } from "./idle-times.ts";
import type { ReconcileOptions } from "./reconcile.ts";

/** Sandboxes that no run uses and no thread comes back to. */
interface IdleSandboxes {
  /** Removes what has been idle for long enough; gives all that the provider holds. */
  removeDue(provider: SandboxProvider, signal: AbortSignal): Promise<readonly SandboxInfo[]>;
  /** Removes what was idle first, until no more than `keep` are left. */
  trim(signal: AbortSignal): Promise<void>;
  /** How many were removed. */
  readonly removed: () => number;
}

interface Idle {
  readonly provider: SandboxProvider;
  readonly info: SandboxInfo;
  readonly since: number;
}

/** A sandbox that no thread comes back to stays so long after its run, for a look at its files. */
const IDLE_MINUTES = 15;
/** A stopped one has nothing to look at; not at once, as somebody may be making it. */
const STOPPED_MS = 60_000;
const KEEP = 4;

export function createIdleSandboxes(options: ReconcileOptions): IdleSandboxes {
  const { busy, remove, log, keep = KEEP, now = Date.now, times } = options;
  const idleMs = (options.idleMinutes ?? IDLE_MINUTES) * 60_000;
  /** By provider and id: one that is made anew begins anew. */
  const seen = idleSince({ times, now });
  let removed = 0;

  const look = async (provider: SandboxProvider, signal: AbortSignal) => {
    await seen.loaded();
    const found = await provider.list(signal);
    const idle: Idle[] = [];
    for (const info of found) {
      if (info.status === "unknown") continue;
      const key = keyOf(provider, info);
      if (!isThreadless(info.handle) || busy(info.handle)) {
        seen.forget(key);
        continue;
      }
      idle.push({ provider, info, since: seen.since(key) });
    }
    const there = new Set(found.map((info) => keyOf(provider, info)));
    seen.keep((key) => !key.startsWith(`${provider.name}/`) || there.has(key));
    return { found, idle };
  };
  const discard = async ({ provider, info }: Idle, signal: AbortSignal) => {
    const { handle, status, createdAt } = info;
    // Its run may have come while the engine was asked.
    if (busy(handle)) return;
    await remove(provider, handle, signal);
    seen.forget(keyOf(provider, info));
    removed += 1;
    log.info({ handle, provider: provider.name, status, createdAt }, "nobody needs it: removed");
  };
  return {
    removed: () => removed,
    removeDue: async (provider, signal) => {
      const { found, idle } = await look(provider, signal);
      for (const one of idle) {
        const limit = one.info.status === "stopped" ? Math.min(STOPPED_MS, idleMs) : idleMs;
        if (now() - one.since >= limit) await discard(one, signal);
      }
      await seen.save();
      return found;
    },
    trim: async (signal) => {
      const looks = await Promise.allSettled(options.providers().map((one) => look(one, signal)));
      const running = looks
        .flatMap((one) => (one.status === "fulfilled" ? one.value.idle : []))
        .filter(({ info }) => info.status === "running")
        .toSorted((a, b) => a.since - b.since || bornAt(a) - bornAt(b));
      const surplus = running.slice(0, Math.max(0, running.length - keep));
      for (const one of surplus) await discard(one, signal);
    },
  };
}

function keyOf(provider: SandboxProvider, { handle, id }: SandboxInfo): string {
  return `${provider.name}/${handle}/${id}`;
}

function bornAt({ info }: Idle): number {
  return Date.parse(info.createdAt);
}
