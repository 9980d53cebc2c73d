import { CHAIN_START } from "../../protocol/chain.ts";
import { RunStatus } from "../../protocol/run-events.ts";
import type { Db, SqlRow } from "../../storage/open-db.ts";
import { RunFacts } from "../run-facts.ts";

/** One run, with how far the hub has read and acknowledged the daemon's journal. */
export interface RunRow {
  readonly runId: string;
  readonly user: string;
  readonly linkId: string;
  readonly attempt: number;
  readonly thread: string | undefined;
  readonly branch: string | undefined;
  readonly harness: string | undefined;
  readonly prompt: string | undefined;
  /** The exact JSON that was dispatched: the same bytes again re-attach. Absent: not started here. */
  readonly body: string | undefined;
  readonly status: RunStatus;
  /** The daemon's ledger has it. */
  readonly accepted: boolean;
  readonly cancelRequested: boolean;
  /** Ended and acknowledged, or given up: no more work for the hub. */
  readonly settled: boolean;
  /** Highest number of the hub's own log. */
  readonly lastSeq: number;
  /** Highest number of the daemon's journal that is stored here. */
  readonly linkSeq: number;
  /** Chain behind `linkSeq`; undefined once a gap made it unknowable. */
  readonly chain: string | undefined;
  /** What both sides agreed on last, by an answered ack. */
  readonly agreed: {
    readonly linkSeq: number;
    readonly chain: string | undefined;
    readonly hubSeq: number;
  };
  readonly facts: RunFacts;
  readonly createdAt: number;
}

export interface RunStore {
  get(runId: string): RunRow | undefined;
  list(user: string, limit: number, before: number): RunRow[];
  /** Runs of a link for which something is left to do, oldest first. */
  unsettled(linkId: string): RunRow[];
  /** How many runs of a link have not ended. */
  active(linkId: string): number;
  cancels(linkId: string): string[];
  /** How many runs there are of each status. */
  countByStatus(): ReadonlyMap<string, number>;
  put(row: RunRow): void;
  remove(runId: string): void;
}

const COLUMNS = `run_id, user, link_id, attempt, thread, branch, harness, prompt, body, status, accepted,
  cancel_requested, settled, last_seq, link_seq, chain, acked_seq, acked_chain, acked_hub_seq, facts, created_at`;
const LIVE = "status NOT IN ('completed', 'failed', 'cancelled')";

export function runStore(db: Db): RunStore {
  const get = db.prepare("SELECT * FROM runs WHERE run_id = ?");
  const list = db.prepare(
    "SELECT * FROM runs WHERE user = ? AND created_at < ? ORDER BY created_at DESC, run_id DESC LIMIT ?",
  );
  const unsettled = db.prepare(
    "SELECT * FROM runs WHERE link_id = ? AND settled = 0 ORDER BY created_at",
  );
  const active = db.prepare(
    `SELECT count(*) AS n FROM runs WHERE link_id = ? AND settled = 0 AND ${LIVE}`,
  );
  const cancels = db.prepare(
    `SELECT run_id FROM runs WHERE link_id = ? AND settled = 0 AND cancel_requested = 1 AND ${LIVE}`,
  );
  const counts = db.prepare("SELECT status, count(*) AS n FROM runs GROUP BY status");
  const put = db.prepare(
    `INSERT OR REPLACE INTO runs (${COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
  );
  const remove = db.prepare("DELETE FROM runs WHERE run_id = ?");
  return {
    get: (runId) => {
      const row = get.get(runId);
      return row === undefined ? undefined : toRun(row);
    },
    list: (user, limit, before) => list.all(user, before, limit).map(toRun),
    unsettled: (linkId) => unsettled.all(linkId).map(toRun),
    active: (linkId) => Number(active.get(linkId)?.["n"] ?? 0),
    cancels: (linkId) => cancels.all(linkId).map((row) => String(row["run_id"])),
    countByStatus: () =>
      new Map(counts.all().map((row) => [String(row["status"]), Number(row["n"])])),
    put: (r) => {
      put.run(
        r.runId,
        r.user,
        r.linkId,
        r.attempt,
        r.thread ?? null,
        r.branch ?? null,
        r.harness ?? null,
        r.prompt ?? null,
        r.body ?? null,
        r.status,
        Number(r.accepted),
        Number(r.cancelRequested),
        Number(r.settled),
        r.lastSeq,
        r.linkSeq,
        r.chain ?? null,
        r.agreed.linkSeq,
        r.agreed.chain ?? null,
        r.agreed.hubSeq,
        JSON.stringify(r.facts),
        r.createdAt,
      );
    },
    remove: (runId) => void remove.run(runId),
  };
}

/** A run before its first event. */
export function newRun(
  o: Pick<RunRow, "runId" | "user" | "linkId" | "createdAt"> & Partial<RunRow>,
): RunRow {
  return {
    attempt: 1,
    thread: undefined,
    branch: undefined,
    harness: undefined,
    prompt: undefined,
    body: undefined,
    status: "queued",
    accepted: false,
    cancelRequested: false,
    settled: false,
    lastSeq: 0,
    linkSeq: 0,
    chain: CHAIN_START,
    agreed: { linkSeq: 0, chain: CHAIN_START, hubSeq: 0 },
    facts: {},
    ...o,
  };
}

function toRun(row: SqlRow): RunRow {
  return {
    runId: String(row["run_id"]),
    user: String(row["user"]),
    linkId: String(row["link_id"]),
    attempt: Number(row["attempt"]),
    thread: text(row["thread"]),
    branch: text(row["branch"]),
    harness: text(row["harness"]),
    prompt: text(row["prompt"]),
    body: text(row["body"]),
    status: RunStatus.parse(row["status"]),
    accepted: row["accepted"] === 1,
    cancelRequested: row["cancel_requested"] === 1,
    settled: row["settled"] === 1,
    lastSeq: Number(row["last_seq"]),
    linkSeq: Number(row["link_seq"]),
    chain: text(row["chain"]),
    agreed: {
      linkSeq: Number(row["acked_seq"]),
      chain: text(row["acked_chain"]),
      hubSeq: Number(row["acked_hub_seq"]),
    },
    facts: RunFacts.parse(JSON.parse(String(row["facts"]))),
    createdAt: Number(row["created_at"]),
  };
}

function text(value: SqlRow[string] | undefined): string | undefined {
  return value === null || value === undefined ? undefined : String(value);
}
