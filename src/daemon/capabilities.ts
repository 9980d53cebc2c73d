import { isDeepStrictEqual } from "node:util";
import type { Capability } from "../protocol/messages.ts";

/** Finds out one capability by doing. It never throws and gives up when the signal aborts. */
export interface CapabilityProbe {
  readonly name: string;
  readonly probe: (signal: AbortSignal) => Promise<Capability>;
}

export interface CapabilityTableOptions {
  readonly probes: readonly CapabilityProbe[];
  /** Each probe's deadline, in milliseconds. */
  readonly deadlineMs?: number;
  /** Called when what is offered has changed. */
  readonly onChange?: () => void;
}

/** What this laptop offers, as of the last look. Reading waits for nobody. */
export interface CapabilityTable {
  readonly current: () => readonly Capability[];
  readonly available: (name: string) => boolean;
  /** Probes everything in parallel; concurrent calls share one round. */
  readonly refresh: (signal: AbortSignal) => Promise<readonly Capability[]>;
}

/** A capability that was there is lost only after so many misses in a row (LESSONS 12). */
export const MISSES_TO_LOSE = 2;
const DEADLINE_MS = 5000;

export function capabilityTable(options: CapabilityTableOptions): CapabilityTable {
  const { probes, deadlineMs = DEADLINE_MS, onChange = () => {} } = options;
  const entries = new Map<string, { capability: Capability; misses: number }>();
  let round: Promise<readonly Capability[]> | undefined;

  const current = () => [...entries.values()].map((entry) => entry.capability);
  const runRound = async (signal: AbortSignal) => {
    const before = current();
    await Promise.all(
      probes.map(async ({ name, probe }) => {
        const found = await withDeadline({ name, probe }, deadlineMs, signal);
        if (!signal.aborted) record(entries, found);
      }),
    );
    const after = current();
    if (!isDeepStrictEqual(before, after)) onChange();
    return after;
  };
  for (const { name } of probes) {
    entries.set(name, { capability: unprobed(name), misses: MISSES_TO_LOSE });
  }
  return {
    current,
    available: (name) => isAvailable(entries.get(name)?.capability),
    refresh(signal) {
      round ??= runRound(signal).finally(() => {
        round = undefined;
      });
      return round;
    },
  };
}

/** Absent `available` means true. */
export function isAvailable(capability: Capability | undefined): boolean {
  return capability !== undefined && capability.available !== false;
}

function unprobed(name: string): Capability {
  return { name, available: false, reason: "not looked at yet" };
}

type Entries = Map<string, { capability: Capability; misses: number }>;

function record(entries: Entries, found: Capability): void {
  const known = entries.get(found.name);
  if (isAvailable(found)) {
    entries.set(found.name, { capability: found, misses: 0 });
    return;
  }
  const misses = (known?.misses ?? 0) + 1;
  const keep = known !== undefined && isAvailable(known.capability) && misses < MISSES_TO_LOSE;
  entries.set(found.name, { capability: keep ? known.capability : found, misses });
}

async function withDeadline(
  { name, probe }: CapabilityProbe,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Capability> {
  const over = new AbortController();
  const late = new Promise<Capability>((resolve) => {
    const reason = `no answer within ${deadlineMs} ms`;
    const timer = setTimeout(resolve, deadlineMs, { name, available: false, reason });
    const stop = () => {
      clearTimeout(timer);
      resolve({ name, available: false, reason: "the look was given up" });
    };
    over.signal.addEventListener("abort", stop, { once: true });
    signal.addEventListener("abort", stop, { once: true, signal: over.signal });
  });
  try {
    const found = probe(AbortSignal.any([signal, over.signal])).catch(
      (error: unknown): Capability => ({ name, available: false, reason: String(error) }),
    );
    return await Promise.race([found, late]);
  } finally {
    over.abort();
  }
}
