import { randomUUID } from "node:crypto";
import { DecoError } from "../../protocol/errors.ts";
import type { Db } from "../../storage/open-db.ts";
import { integer } from "./row.ts";

const VERSION = 3;

/** Ended runs that the hub holds completely are forgotten after this long. */
const KEEP_MS = 30 * 24 * 3600 * 1000;

/**
 * Makes or checks the journal's tables, and forgets what is old.
 *
 * `runs` is the ledger, one row per attempt; `events` holds what was not yet acknowledged;
 * `cancels` remembers cancels of runs that may still be dispatched; `journal` names this file and
 * counts the runs that were acknowledged to their end (`settled_no` of each).
 *
 * @throws DecoError `storage_failed` when the file is damaged or was written by a newer version.
 */
export function prepareSchema(db: Db, path: string, now: number): void {
  checkDamage(db, path);
  const version = integer(db.prepare("PRAGMA user_version").get(), "user_version");
  if (version > VERSION) {
    throw new DecoError("storage_failed", `${path} was written by a newer version`, {
      fix: "Update deco link, or move the file away to start with an empty journal.",
    });
  }
  db.transaction(() => {
    db.exec(TABLES);
    if (version === 1) db.exec(FROM_VERSION_1);
    if (version === 1 || version === 2) db.exec(FROM_VERSION_2);
    db.exec("CREATE INDEX IF NOT EXISTS runs_settled ON runs (settled_no) WHERE settled_no > 0");
    db.prepare("INSERT OR IGNORE INTO journal (one, id, settled) VALUES (1, ?, 0)").run(
      randomUUID(),
    );
    db.prepare("DELETE FROM runs WHERE ended = 1 AND acked_seq = last_seq AND updated_at < ?").run(
      now - KEEP_MS,
    );
    db.prepare("DELETE FROM cancels WHERE at < ?").run(now - KEEP_MS);
  });
}

/** Reading all of a journal that is full to its limit takes 0.2 s, with a cold disk seconds. */
const CHECK_WHOLE_BYTES = 64 * 1024 * 1024;

/**
 * A small file is checked whole. Of a big one only the tables that every start needs: a damaged page
 * of its events is `storage_failed` to whoever reads that run, and hides no other one.
 */
function checkDamage(db: Db, path: string): void {
  const pages = integer(db.prepare("PRAGMA page_count").get(), "page_count");
  const pageBytes = integer(db.prepare("PRAGMA page_size").get(), "page_size");
  const whole = pages * pageBytes <= CHECK_WHOLE_BYTES;
  for (const what of whole ? ["1"] : ["runs", "cancels"]) {
    const found = db.prepare(`PRAGMA quick_check(${what})`).get()?.["quick_check"];
    if (found === "ok") continue;
    throw new DecoError("storage_failed", `${path} is damaged: ${String(found)}`, {
      fix: `Move ${path} away to start with an empty journal; unacknowledged events are lost.`,
    });
  }
}

const FROM_VERSION_1 = `
ALTER TABLE runs ADD COLUMN started_at INTEGER;
ALTER TABLE runs ADD COLUMN slept_ms INTEGER NOT NULL DEFAULT 0;
`;

const FROM_VERSION_2 = `
ALTER TABLE runs ADD COLUMN settled_no INTEGER NOT NULL DEFAULT 0;
`;

const TABLES = `
CREATE TABLE IF NOT EXISTS runs (
  run_id TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  body TEXT NOT NULL,
  body_sha256 TEXT NOT NULL,
  status TEXT NOT NULL,
  ended INTEGER NOT NULL DEFAULT 0,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  handle TEXT,
  provider TEXT,
  harness_run_id TEXT,
  phase TEXT NOT NULL DEFAULT 'queued',
  harness_event_id TEXT,
  last_seq INTEGER NOT NULL DEFAULT 0,
  last_chain TEXT NOT NULL,
  acked_seq INTEGER NOT NULL DEFAULT 0,
  acked_chain TEXT NOT NULL,
  bytes INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  started_at INTEGER,
  slept_ms INTEGER NOT NULL DEFAULT 0,
  settled_no INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run_id, attempt)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  run_id TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  type TEXT NOT NULL,
  data TEXT NOT NULL,
  harness_event_id TEXT,
  chain TEXT NOT NULL,
  PRIMARY KEY (run_id, attempt, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cancels (
  run_id TEXT PRIMARY KEY,
  attempt INTEGER NOT NULL,
  at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  id TEXT NOT NULL,
  settled INTEGER NOT NULL
);
PRAGMA user_version = ${VERSION};
`;
