import { DecoError } from "../protocol/errors.ts";
import type { ProviderName } from "../protocol/messages.ts";
import type { Orphan, SandboxInfo, SandboxProvider } from "../sandbox/provider.ts";
import { untilAbort } from "../sandbox/until-abort.ts";
import { isThreadless } from "./close-sandboxes.ts";

/** One thing that nobody needs, and why. */
export interface PruneItem {
  readonly kind: "sandbox" | Orphan["kind"];
  readonly provider: ProviderName;
  readonly name: string;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly reason: string;
}

export interface PruneReport {
  /** How many things of this daemon there are. */
  readonly total: number;
  readonly candidates: readonly PruneItem[];
  /** Providers of which nothing is known now: nothing of theirs is removed. */
  readonly unknown: readonly PruneTrouble[];
  /** Empty for a dry run. */
  readonly removed: readonly PruneItem[];
  readonly failed: readonly (PruneTrouble & PruneItem)[];
}

export interface PruneTrouble {
  readonly provider: ProviderName;
  readonly code: string;
  readonly detail: string;
  readonly fix: string;
}

export interface Prune {
  /** What would go. */
  look(signal: AbortSignal): Promise<PruneReport>;
  /** Removes it. @throws prune_too_much: more than half of all, without `force` */
  execute(o: { force: boolean }, signal: AbortSignal): Promise<PruneReport>;
}

export interface PruneOptions {
  readonly providers: () => readonly SandboxProvider[];
  /** Whether a run works, or waits to work, in this sandbox. */
  readonly busy: (handle: string) => boolean;
  readonly remove: (p: SandboxProvider, handle: string, signal: AbortSignal) => Promise<void>;
  /** For one look at a provider; 15,000. */
  readonly lookMs?: number;
}

/** Handles of threads, as the executor names them: their workspaces are the threads'. */
const OF_THREAD = /^t-[0-9a-f]{16}$/;
const LOOK_MS = 15_000;
/** Where sandboxes are known of, an engine that is silent for so long makes them `unknown`. */
const LIST_MS = 5_000;

interface Found {
  readonly item: PruneItem;
  readonly remove: (signal: AbortSignal) => Promise<void>;
  readonly busy: () => boolean;
}

/** Removes nothing that isn't asked for, and nothing of a neighbour's (LESSONS 30). */
export function createPrune(options: PruneOptions): Prune {
  const look = async (outer: AbortSignal) => {
    const providers = options.providers();
    const looks = await Promise.allSettled(providers.map((one) => lookInTime(options, one, outer)));
    outer.throwIfAborted();
    const unknown = looks.flatMap((one, index): PruneTrouble[] => {
      const provider = providers[index]?.name;
      if (one.status === "fulfilled" || provider === undefined) return [];
      return [troubleOf(provider, one.reason)];
    });
    const known = looks.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    const found = known.flatMap((one) => one.found);
    const total = known.reduce((sum, one) => sum + one.total, 0);
    const candidates = found.map(({ item }) => item);
    return { found, report: { total, candidates, unknown, removed: [], failed: [] } };
  };
  return {
    look: async (signal) => (await look(signal)).report,
    execute: async ({ force }, signal) => {
      const { found, report } = await look(signal);
      if (!force && found.length * 2 > report.total) throw tooMuch(report);
      const removed: PruneItem[] = [];
      const failed: (PruneTrouble & PruneItem)[] = [];
      for (const { item, remove, busy } of found) {
        signal.throwIfAborted();
        // Its run may have come in the meantime.
        if (busy()) continue;
        try {
          await remove(signal);
          removed.push(item);
        } catch (thrown) {
          failed.push({ ...item, ...troubleOf(item.provider, thrown) });
        }
      }
      return { ...report, removed, failed };
    },
  };
}

async function lookInTime(
  options: PruneOptions,
  provider: SandboxProvider,
  outer: AbortSignal,
): Promise<{ total: number; found: Found[] }> {
  const { lookMs = LOOK_MS } = options;
  const late = AbortSignal.timeout(lookMs);
  const signal = AbortSignal.any([outer, late]);
  try {
    return await untilAbort(lookAt(options, provider, signal), signal);
  } catch (thrown) {
    if (outer.aborted || !late.aborted) throw thrown;
    const code = provider.name === "docker" ? "docker_unavailable" : "sandbox_failed";
    throw new DecoError(code, `it did not say within ${lookMs} ms what there is`, {
      cause: thrown,
    });
  }
}

async function lookAt(
  { busy, remove }: PruneOptions,
  provider: SandboxProvider,
  signal: AbortSignal,
): Promise<{ total: number; found: Found[] }> {
  const sandboxes = await provider.list(signal, { deadlineMs: LIST_MS });
  if (sandboxes.some(({ status }) => status === "unknown")) {
    throw new DecoError("docker_unavailable", "the state of its sandboxes is not known");
  }
  const orphans = (await provider.orphans?.(signal)) ?? [];
  const { name } = provider;
  const dead = sandboxes.flatMap((info): Found[] => {
    const reason = busy(info.handle) ? undefined : reasonOf(info);
    if (reason === undefined) return [];
    const { handle, createdAt } = info;
    return [
      {
        item: { kind: "sandbox", provider: name, name: handle, createdAt, reason },
        remove: (within) => remove(provider, handle, within),
        busy: () => busy(handle),
      },
    ];
  });
  const lost = orphans.flatMap((orphan): Found[] => {
    const { handle, kind, createdAt } = orphan;
    const reason = whyLost(orphan);
    const isBusy = () => handle !== undefined && busy(handle);
    if (isBusy()) return [];
    return [
      {
        item: { kind, provider: name, name: orphan.name, createdAt, reason },
        remove: async (within) => await provider.removeOrphan?.(orphan, within),
        busy: isBusy,
      },
    ];
  });
  return { total: sandboxes.length + orphans.length, found: [...dead, ...lost] };
}

/** Why nobody needs it; undefined: somebody may. A thread's sandbox holds its workspace. */
function reasonOf({ handle, status }: SandboxInfo): string | undefined {
  if (isThreadless(handle)) return "its run has ended, and no thread comes back to it";
  if (status !== "stopped" || OF_THREAD.test(handle)) return undefined;
  // A clean stop stops those of a PUT, too: whoever made it may want it again.
  return "it does not run, and has no thread; its files go with it";
}

function whyLost({ kind, handle = "", reason }: Orphan): string {
  if (kind !== "volume" || !OF_THREAD.test(handle)) return reason;
  return `${reason}; it holds a thread's files, which its next run would find`;
}

function tooMuch({ total, candidates }: PruneReport): DecoError {
  const detail = `${candidates.length} of ${total} things would be removed`;
  return new DecoError("prune_too_much", detail, {
    extensions: { total, candidates: candidates.length },
  });
}

function troubleOf(provider: ProviderName, thrown: unknown): PruneTrouble {
  const { code, message: detail, fix } = DecoError.from(thrown);
  return { provider, code, detail, fix };
}
