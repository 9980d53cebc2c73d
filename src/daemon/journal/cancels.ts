import type { Db } from "../../storage/open-db.ts";
import { integer } from "./row.ts";

/** Cancels of attempts that were not dispatched yet (LESSONS 18). */
export interface Cancels {
  /** Without an attempt it covers whatever attempt may come. */
  keep(runId: string, attempt: number | undefined): void;
  covers(runId: string, attempt: number): boolean;
}

const ANY_ATTEMPT = 2 ** 52;

export function createCancels(db: Db, now: () => number): Cancels {
  const select = db.prepare("SELECT attempt FROM cancels WHERE run_id = ?");
  const upsert = db.prepare(
    `INSERT INTO cancels (run_id, attempt, at) VALUES (?, ?, ?)
     ON CONFLICT (run_id) DO UPDATE SET attempt = max(attempt, excluded.attempt), at = excluded.at`,
  );
  return {
    keep: (runId, attempt = ANY_ATTEMPT) => void upsert.run(runId, attempt, now()),
    covers: (runId, attempt) => {
      const row = select.get(runId);
      return row !== undefined && attempt <= integer(row, "attempt");
    },
  };
}
