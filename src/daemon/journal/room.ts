import { setTimeout as sleep } from "node:timers/promises";
import type { RunEvent } from "../../protocol/run-events.ts";
import { sqliteCode } from "../../storage/open-db.ts";
import type { EventLog, JournalDraft } from "./event-log.ts";
import type { Ledger } from "./ledger.ts";
import type { Wake } from "./wake.ts";

/** How much the journal may hold that was not acknowledged, in UTF-8 bytes. */
export interface JournalLimits {
  readonly maxRunBytes: number;
  readonly maxTotalBytes: number;
}

export const DEFAULT_LIMITS: JournalLimits = {
  maxRunBytes: 64 * 1024 * 1024,
  maxTotalBytes: 512 * 1024 * 1024,
};

/** Where waiters for room stand. */
export const ROOM = "room";

const SQLITE_FULL = 13;
const FULL_DISK_RETRY_IN_MS = 1000;

interface RoomOptions {
  readonly log: Pick<EventLog, "append" | "totalBytes">;
  readonly ledger: Pick<Ledger, "find">;
  readonly append: EventLog["append"];
  readonly limits: JournalLimits;
  readonly wake: Wake;
}

/** Appends what a harness says: waits for room instead of losing (LESSONS 16). */
export type AppendWhenRoom = (
  runId: string,
  attempt: number,
  drafts: readonly JournalDraft[],
  signal: AbortSignal,
) => Promise<RunEvent[]>;

export function createAppendWhenRoom(options: RoomOptions): AppendWhenRoom {
  const { log, ledger, append, limits, wake } = options;
  const fits = (runId: string, attempt: number, more: number, share: number): boolean => {
    const own = ledger.find(runId, attempt)?.bytes ?? 0;
    const others = log.totalBytes() - own;
    // An event larger than the limit would otherwise wait for ever.
    const inRun = own === 0 || own + more <= limits.maxRunBytes * share;
    const inAll = own + others === 0 || own + others + more <= limits.maxTotalBytes * share;
    return inRun && inAll;
  };
  return async (runId, attempt, drafts, signal) => {
    signal.throwIfAborted();
    const more = drafts.reduce((sum, draft) => sum + sizeOf(draft), 0);
    if (fits(runId, attempt, more, 1)) {
      return await appendToDisk({ append, runId, attempt, drafts, signal });
    }
    append(runId, attempt, [{ type: "run.suspended", payload: { reason: "journal_full" } }]);
    // A quarter free before it goes on, so that it does not stutter event by event.
    while (!fits(runId, attempt, more, 0.75)) await wake.wait(ROOM, signal);
    const resumed = { type: "run.resumed", payload: { reason: "journal_full" } };
    return await appendToDisk({ append, runId, attempt, drafts: [resumed, ...drafts], signal });
  };
}

interface DiskAppend {
  readonly append: EventLog["append"];
  readonly runId: string;
  readonly attempt: number;
  readonly drafts: readonly JournalDraft[];
  readonly signal: AbortSignal;
}

/** A full disk is back-pressure as well: nothing was written, so it may be tried again. */
async function appendToDisk(options: DiskAppend): Promise<RunEvent[]> {
  const { append, runId, attempt, drafts, signal } = options;
  for (;;) {
    try {
      return append(runId, attempt, drafts);
    } catch (error) {
      if (sqliteCode(error) !== SQLITE_FULL) throw error;
      await sleep(FULL_DISK_RETRY_IN_MS, undefined, { signal });
    }
  }
}

/** A little more than the line that it becomes. */
function sizeOf(draft: JournalDraft): number {
  return Buffer.byteLength(JSON.stringify(draft.payload)) + 256;
}
