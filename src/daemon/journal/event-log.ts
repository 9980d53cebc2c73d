import { nextChain } from "../../protocol/chain.ts";
import { DecoError } from "../../protocol/errors.ts";
import type { Ack } from "../../protocol/messages.ts";
import { nextStatus } from "../../protocol/next-status.ts";
import { encodeRunEvent, isEnded, type RunEvent } from "../../protocol/run-events.ts";
import type { Db } from "../../storage/open-db.ts";
import type { Ledger } from "./ledger.ts";

import { integer, text } from "./row.ts";
import type { RunRecord } from "./run-record.ts";

/** An event that has no number yet. */
export interface JournalDraft {
  /** One of ours, or whatever a harness calls it. */
  readonly type: string;
  readonly payload: Readonly<Record<string, unknown>>;
  /** RFC 3339; the journal's clock when absent. */
  readonly at?: string;
  /** harnessd's own id of this event, kept in the same commit. */
  readonly harnessEventId?: string;
}

/** One event as it goes over the wire: `data` is the exact text that is chained. */
export interface JournalRow {
  readonly seq: number;
  readonly type: string;
  readonly data: string;
}

export interface EventLog {
  append(runId: string, attempt: number, drafts: readonly JournalDraft[]): RunEvent[];
  read(runId: string, attempt: number, after: number, limit: number): JournalRow[];
  ack(runId: string, ack: Ack): { readonly removed: number };
  /** UTF-8 bytes of all events that were not acknowledged. */
  totalBytes(): number;
}

export function createEventLog(db: Db, ledger: Ledger, now: () => number): EventLog {
  const insert = db.prepare(
    `INSERT INTO events (run_id, attempt, seq, type, data, harness_event_id, chain)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
  );
  const advance = db.prepare(
    `UPDATE runs SET status = ?, ended = ?, last_seq = ?, last_chain = ?, bytes = bytes + ?,
     harness_event_id = coalesce(?, harness_event_id), updated_at = ?
     WHERE run_id = ? AND attempt = ?`,
  );
  const select = db.prepare(
    `SELECT seq, type, data FROM events WHERE run_id = ? AND attempt = ? AND seq > ?
     ORDER BY seq LIMIT ?`,
  );
  const sumBytes = db.prepare("SELECT coalesce(sum(bytes), 0) AS bytes FROM runs");
  const truncate = truncation(db, ledger);
  let total = integer(sumBytes.get(), "bytes");

  return {
    append: (runId, attempt, drafts) => {
      if (drafts.length === 0) return [];
      const batch = db.transaction(() => {
        const run = need(ledger.find(runId, attempt), runId, attempt);
        const next = number(run, drafts, now);
        for (const { event, data, chain, harnessEventId } of next.rows) {
          insert.run(runId, attempt, event.seq, event.type, data, harnessEventId ?? null, chain);
        }
        const { status, rows, bytes, lastChain, harnessEventId } = next;
        if (rows.length > 0) {
          const ended = isEnded(status) ? 1 : 0;
          const lastSeq = run.lastSeq + rows.length;
          const from = harnessEventId ?? null;
          advance.run(status, ended, lastSeq, lastChain, bytes, from, now(), runId, attempt);
        }
        return next;
      });
      total += batch.bytes;
      return batch.rows.map((row) => row.event);
    },
    read: (runId, attempt, after, limit) => {
      const run = need(ledger.find(runId, attempt), runId, attempt);
      if (after > run.lastSeq) {
        throw new DecoError("seq_ahead", `${runId} is at ${run.lastSeq}, not at ${after}`);
      }
      if (after < run.ackedSeq) throw truncated(run, after);
      return select.all(runId, attempt, after, limit).map((row) => ({
        seq: integer(row, "seq"),
        type: text(row, "type"),
        data: text(row, "data"),
      }));
    },
    ack: (runId, ack) => {
      const removed = db.transaction(() => truncate(runId, ack));
      total -= removed;
      return { removed };
    },
    totalBytes: () => total,
  };
}

interface Numbered {
  readonly event: RunEvent;
  readonly data: string;
  readonly chain: string;
  readonly harnessEventId: string | undefined;
}

/** Gives drafts their numbers and chain; what follows a terminal event is dropped. */
function number(run: RunRecord, drafts: readonly JournalDraft[], now: () => number) {
  const rows: Numbered[] = [];
  let { status, lastChain } = run;
  let bytes = 0;
  let harnessEventId: string | undefined;
  for (const draft of drafts) {
    if (isEnded(status)) break;
    const { type, payload, at = new Date(now()).toISOString() } = draft;
    const event = { seq: run.lastSeq + rows.length + 1, runId: run.runId, type, at, payload };
    const data = encodeRunEvent(event);
    lastChain = nextChain(lastChain, data);
    status = nextStatus(status, draft);
    bytes += Buffer.byteLength(data);
    harnessEventId = draft.harnessEventId ?? harnessEventId;
    rows.push({ event, data, chain: lastChain, harnessEventId: draft.harnessEventId });
  }
  return { rows, status, lastChain, bytes, harnessEventId };
}

/** Checks an ack against the chain and removes what the hub holds; gives the bytes removed. */
function truncation(db: Db, ledger: Ledger): (runId: string, ack: Ack) => number {
  const upTo = "run_id = ? AND attempt = ? AND seq <= ?";
  // `length` of a BLOB is bytes; of a TEXT it would be characters.
  const sum = db.prepare(
    `SELECT sum(length(CAST(data AS BLOB))) AS bytes FROM events WHERE ${upTo}`,
  );
  const remove = db.prepare(`DELETE FROM events WHERE ${upTo}`);
  const advance = db.prepare(
    `UPDATE runs SET acked_seq = ?, acked_chain = ?, bytes = bytes - ?
     WHERE run_id = ? AND attempt = ?`,
  );
  const chainAt = db.prepare(
    "SELECT chain FROM events WHERE run_id = ? AND attempt = ? AND seq = ?",
  );
  return (runId, { attempt, seq, chain }) => {
    const run = need(ledger.find(runId, attempt), runId, attempt);
    if (seq > run.lastSeq) {
      throw new DecoError("seq_ahead", `${runId} is at ${run.lastSeq}, not at ${seq}`);
    }
    if (seq < run.ackedSeq) return 0;
    // An acked prefix of nothing has the chain's start.
    const expected =
      seq === run.ackedSeq ? run.ackedChain : text(chainAt.get(runId, attempt, seq), "chain");
    if (chain !== expected) {
      throw new DecoError("chain_mismatch", `${runId} has another chain at ${seq}`, {
        extensions: { firstSeq: run.firstSeq, ackedSeq: run.ackedSeq, ackedChain: run.ackedChain },
      });
    }
    if (seq === run.ackedSeq) return 0;
    const bytes = integer(sum.get(runId, attempt, seq), "bytes");
    remove.run(runId, attempt, seq);
    advance.run(seq, chain, bytes, runId, attempt);
    if (run.ended && seq === run.lastSeq) ledger.settle(runId, attempt);
    return bytes;
  };
}

function truncated(run: RunRecord, after: number): DecoError {
  return new DecoError("events_truncated", `${run.runId} begins at ${run.firstSeq}`, {
    extensions: { firstSeq: run.firstSeq, chain: run.ackedChain, after },
  });
}

function need(run: RunRecord | undefined, runId: string, attempt: number): RunRecord {
  if (run) return run;
  throw new DecoError("run_not_found", `${runId} attempt ${attempt} is not in the journal`);
}
