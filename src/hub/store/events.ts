import type { Db } from "../../storage/open-db.ts";

/** One line of the hub's log of a run. */
export interface EventRow {
  readonly seq: number;
  readonly attempt: number;
  /** The daemon's number; undefined for an event that the hub added. */
  readonly linkSeq: number | undefined;
  readonly type: string;
  /** The bytes as they came from the daemon, which carry the daemon's number. */
  readonly data: string;
}

export interface EventStore {
  insert(runId: string, row: EventRow): void;
  /** Events behind `after`, in order. */
  read(runId: string, after: number, limit: number): EventRow[];
  /** Drops all events behind `seq`: what the two sides did not agree on. */
  dropAfter(runId: string, seq: number): void;
}

export function eventStore(db: Db): EventStore {
  const insert = db.prepare(
    "INSERT INTO events (run_id, seq, attempt, link_seq, type, data) VALUES (?,?,?,?,?,?)",
  );
  const read = db.prepare("SELECT * FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?");
  const dropAfter = db.prepare("DELETE FROM events WHERE run_id = ? AND seq > ?");
  return {
    insert: (runId, row) =>
      void insert.run(runId, row.seq, row.attempt, row.linkSeq ?? null, row.type, row.data),
    read: (runId, after, limit) =>
      read.all(runId, after, limit).map((row) => ({
        seq: Number(row["seq"]),
        attempt: Number(row["attempt"]),
        linkSeq: row["link_seq"] === null ? undefined : Number(row["link_seq"]),
        type: String(row["type"]),
        data: String(row["data"]),
      })),
    dropAfter: (runId, seq) => void dropAfter.run(runId, seq),
  };
}
