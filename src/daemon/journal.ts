import type { Ack, DispatchRun, Heartbeat, RunState, SettledRuns } from "../protocol/messages.ts";
import type { RunEvent } from "../protocol/run-events.ts";
import { type Db, openDb } from "../storage/open-db.ts";
import {
  createEventLog,
  type EventLog,
  type JournalDraft,
  type JournalRow,
} from "./journal/event-log.ts";
import { createLedger, type Ledger, type RunProgress } from "./journal/ledger.ts";
import {
  type AppendWhenRoom,
  createAppendWhenRoom,
  DEFAULT_LIMITS,
  type JournalLimits,
  ROOM,
} from "./journal/room.ts";
import { type RunRecord, toState } from "./journal/run-record.ts";
import { prepareSchema } from "./journal/schema.ts";
import { createWake, type Wake } from "./journal/wake.ts";

export type { JournalDraft } from "./journal/event-log.ts";
export type { RunRecord } from "./journal/run-record.ts";

/**
 * The daemon's runs on disk: ledger and numbered events, until the hub has acknowledged them.
 *
 * Calls are synchronous: when one returns, it is on disk. Numbers are contiguous from 1 per
 * (runId, attempt); the first terminal event ends the attempt.
 *
 * @see PROTOCOL.md, section "Run events"
 */
export interface Journal {
  /**
   * Enters a dispatch. A run that was cancelled before it came ends at once with `run.cancelled`.
   *
   * @throws run_conflict (same attempt, another body), attempt_stale
   */
  createRun(dispatch: DispatchRun): {
    readonly type: "created" | "attached";
    readonly run: RunRecord;
  };
  /** All in one commit. After the terminal event it appends nothing and returns `[]`. */
  append(runId: string, attempt: number, drafts: readonly JournalDraft[]): RunEvent[];
  /** As append, but waits while run or journal are full, and says so by `run.suspended`. */
  appendWhenRoom: AppendWhenRoom;
  /** @throws run_not_found, seq_ahead, events_truncated (with `firstSeq`) */
  read(runId: string, attempt: number, after: number, limit?: number): JournalRow[];
  /** Resolves when there is an event behind `after`, or the attempt has ended. Rejects on abort. */
  waitFor(runId: string, attempt: number, after: number, signal: AbortSignal): Promise<void>;
  /** The hub holds everything up to `seq`. @throws run_not_found, seq_ahead, chain_mismatch */
  ack(runId: string, ack: Ack): void;
  /** Resolves when the hub holds every run that has ended. Rejects on abort. */
  endsAcked(signal: AbortSignal): Promise<void>;
  /** The newest attempt, or the given one. */
  state(runId: string, attempt?: number): RunState | undefined;
  record(runId: string, attempt?: number): RunRecord | undefined;
  /** What was dispatched, until it is acknowledged to its end. @throws run_not_found */
  dispatch(runId: string, attempt: number): DispatchRun;
  list(): RunState[];
  /** Attempts without a terminal event, oldest first. */
  unfinished(): RunRecord[];
  /** What a heartbeat says: runs that are unfinished or not acknowledged to their end. */
  heartbeatRuns(): Heartbeat["runs"];
  /** Runs acknowledged to their end behind the number that the hub told last; a page of them. */
  settledRuns(after: number | undefined): SettledRuns;
  /**
   * Journals that a run shall end. `unknown`: it was not dispatched yet, and never will start.
   *
   * @throws attempt_stale
   */
  markCancel(runId: string, attempt?: number): "unknown" | "marked" | "ended";
  cancelRequested(runId: string, attempt: number): boolean;
  setProgress(runId: string, attempt: number, progress: RunProgress): void;
  /** UTF-8 bytes that were not acknowledged. */
  totalBytes(): number;
  close(): void;
}

export interface JournalOptions {
  /** The SQLite file; its directory exists. */
  readonly path: string;
  readonly limits?: Partial<JournalLimits>;
  readonly now?: () => number;
}

/** @throws DecoError `storage_failed` when the file is damaged or can't be opened. */
export function openJournal(options: JournalOptions): Journal {
  const { path, now = Date.now } = options;
  const db = openDb(path);
  try {
    prepareSchema(db, path, now());
  } catch (error) {
    db.close();
    throw error;
  }
  const wake = createWake();
  const ledger = createLedger(db, now);
  const log = createEventLog(db, ledger, now);
  const limits = { ...DEFAULT_LIMITS, ...options.limits };

  const append: EventLog["append"] = (runId, attempt, drafts) => {
    const events = log.append(runId, attempt, drafts);
    if (events.length > 0) wake.wake(placeOf(runId, attempt));
    return events;
  };
  return {
    append,
    appendWhenRoom: createAppendWhenRoom({ log, ledger, append, limits, wake }),
    read: (runId, attempt, after, limit = 500) => log.read(runId, attempt, after, limit),
    ack: (runId, ack) => {
      if (log.ack(runId, ack).removed > 0) wake.wake(ROOM);
    },
    endsAcked: async (signal) => {
      while (ledger.open().some((run) => run.ended)) await wake.wait(ROOM, signal);
    },
    waitFor: (runId, attempt, after, signal) =>
      waitFor({ ledger, wake, runId, attempt, after, signal }),
    totalBytes: () => log.totalBytes(),
    ...runsOf(db, ledger, log),
    close: () => {
      db.close();
      wake.wakeAll();
    },
  };
}

/** The calls that concern the ledger. */
function runsOf(db: Db, ledger: Ledger, log: EventLog) {
  const record = (runId: string, attempt?: number) => ledger.find(runId, attempt);
  return {
    record,
    createRun: (dispatch: DispatchRun) =>
      db.transaction(() => {
        const { runId, attempt } = dispatch;
        const type = ledger.insert(dispatch);
        if (type === "created" && ledger.cancelled(runId, attempt)) {
          log.append(runId, attempt, [{ type: "run.cancelled", payload: { processesLeft: 0 } }]);
        }
        return { type, run: known(record(runId, attempt)) };
      }),
    state: (runId: string, attempt?: number) => {
      const run = record(runId, attempt);
      return run && toState(run);
    },
    dispatch: (runId: string, attempt: number) => ledger.dispatch(runId, attempt),
    list: () => ledger.list().map(toState),
    unfinished: () => ledger.unfinished(),
    heartbeatRuns: () =>
      ledger
        .open()
        .map(({ runId, attempt, lastSeq, status }) => ({ runId, attempt, lastSeq, status })),
    settledRuns: (after: number | undefined) => ledger.settledRuns(after),
    markCancel: (runId: string, attempt?: number) => ledger.cancel(runId, attempt),
    cancelRequested: (runId: string, attempt: number) =>
      record(runId, attempt)?.cancelRequested ?? false,
    setProgress: (runId: string, attempt: number, progress: RunProgress) =>
      ledger.setProgress(runId, attempt, progress),
  };
}

interface WaitOptions {
  readonly ledger: Ledger;
  readonly wake: Wake;
  readonly runId: string;
  readonly attempt: number;
  readonly after: number;
  readonly signal: AbortSignal;
}

async function waitFor(options: WaitOptions): Promise<void> {
  const { ledger, wake, runId, attempt, after, signal } = options;
  for (;;) {
    signal.throwIfAborted();
    const run = ledger.find(runId, attempt);
    if (!run || run.ended || run.lastSeq > after) return;
    await wake.wait(placeOf(runId, attempt), signal);
  }
}

function placeOf(runId: string, attempt: number): string {
  return `${runId}/${attempt}`;
}

function known<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("a row that was just written is gone");
  return value;
}
