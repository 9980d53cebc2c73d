import { DecoError } from "../../protocol/errors.ts";
import { DispatchRun } from "../../protocol/messages.ts";
import type { Db } from "../../storage/open-db.ts";
import { text } from "./row.ts";
import { RECORD_COLUMNS, type RunRecord, readRecord } from "./run-record.ts";

/** The hub takes heartbeats of up to 1 MiB; what is left out comes when the hub has some of these. */
const TOLD = 1000;

/** The ledger's questions. */
export interface LedgerReads {
  /** The newest attempt, or the given one. */
  find(runId: string, attempt?: number): RunRecord | undefined;
  /** The body of a dispatch, until it is settled. @throws run_not_found */
  dispatch(runId: string, attempt: number): DispatchRun;
  list(): RunRecord[];
  /** Not ended, oldest first. */
  unfinished(): RunRecord[];
  /** Not ended, or not acknowledged to the end: what a heartbeat reports, {@link TOLD} at most. */
  open(): RunRecord[];
}

export function createLedgerReads(db: Db): LedgerReads {
  const select = (rest: string) => db.prepare(`SELECT ${RECORD_COLUMNS} FROM runs ${rest}`);
  const one = select("WHERE run_id = ? AND attempt = ?");
  const newest = select("WHERE run_id = ? ORDER BY attempt DESC LIMIT 1");
  const all = select("ORDER BY created_at, run_id, attempt");
  const unended = select("WHERE ended = 0 ORDER BY created_at, run_id, attempt");
  const unacked = select(
    `WHERE ended = 0 OR acked_seq < last_seq ORDER BY ended, created_at LIMIT ${TOLD}`,
  );
  const bodyOf = db.prepare("SELECT body FROM runs WHERE run_id = ? AND attempt = ?");
  return {
    find: (runId, attempt) => {
      const row = attempt === undefined ? newest.get(runId) : one.get(runId, attempt);
      return row && readRecord(row);
    },
    dispatch: (runId, attempt) => {
      const row = bodyOf.get(runId, attempt);
      if (!row) throw new DecoError("run_not_found", `${runId} attempt ${attempt} is not here`);
      return DispatchRun.parse(JSON.parse(text(row, "body")));
    },
    list: () => all.all().map(readRecord),
    unfinished: () => unended.all().map(readRecord),
    open: () => unacked.all().map(readRecord),
  };
}
