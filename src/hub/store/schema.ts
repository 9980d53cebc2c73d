/** Version of the tables below; a newer file is refused instead of half understood. */
export const STORE_VERSION = 1;

/** The hub's tables. All times are Unix milliseconds of the hub's clock. */
export const SCHEMA = `
CREATE TABLE IF NOT EXISTS links (
  link_id TEXT PRIMARY KEY,
  user TEXT NOT NULL,
  machine_id TEXT NOT NULL,
  public_key TEXT NOT NULL,
  machine TEXT NOT NULL,
  capabilities TEXT NOT NULL,
  tunnel_url TEXT,
  epoch INTEGER NOT NULL,
  kid TEXT NOT NULL,
  jti TEXT NOT NULL,
  state TEXT NOT NULL,
  ended INTEGER NOT NULL DEFAULT 0,
  revoked INTEGER NOT NULL DEFAULT 0,
  load TEXT NOT NULL DEFAULT '{"runs":0}',
  other_runs INTEGER NOT NULL DEFAULT 0,
  last_seen INTEGER NOT NULL,
  registered_at INTEGER NOT NULL,
  UNIQUE (user, machine_id)
);
CREATE INDEX IF NOT EXISTS links_machine ON links (machine_id);

CREATE TABLE IF NOT EXISTS runs (
  run_id TEXT PRIMARY KEY,
  user TEXT NOT NULL,
  link_id TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  thread TEXT,
  branch TEXT,
  harness TEXT,
  prompt TEXT,
  body TEXT,
  status TEXT NOT NULL,
  accepted INTEGER NOT NULL DEFAULT 0,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  settled INTEGER NOT NULL DEFAULT 0,
  last_seq INTEGER NOT NULL DEFAULT 0,
  link_seq INTEGER NOT NULL DEFAULT 0,
  chain TEXT,
  acked_seq INTEGER NOT NULL DEFAULT 0,
  acked_chain TEXT,
  acked_hub_seq INTEGER NOT NULL DEFAULT 0,
  facts TEXT NOT NULL DEFAULT '{}',
  created_at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_user ON runs (user, created_at);
CREATE INDEX IF NOT EXISTS runs_open ON runs (link_id, settled);

CREATE TABLE IF NOT EXISTS settled_marks (
  link_id TEXT NOT NULL,
  journal TEXT NOT NULL,
  mark INTEGER NOT NULL,
  PRIMARY KEY (link_id, journal)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS events (
  run_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  link_seq INTEGER,
  type TEXT NOT NULL,
  data TEXT NOT NULL,
  PRIMARY KEY (run_id, seq),
  UNIQUE (run_id, attempt, link_seq)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS threads (
  user TEXT NOT NULL,
  thread_id TEXT NOT NULL,
  provider TEXT,
  harness TEXT NOT NULL,
  branch TEXT,
  first_run TEXT NOT NULL,
  sandbox_map TEXT NOT NULL DEFAULT '{}',
  created_at INTEGER NOT NULL,
  PRIMARY KEY (user, thread_id)
);

CREATE TABLE IF NOT EXISTS idempotency (
  user TEXT NOT NULL,
  path TEXT NOT NULL,
  key TEXT NOT NULL,
  body_hash TEXT NOT NULL,
  run_id TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (user, path, key)
);

CREATE TABLE IF NOT EXISTS device_codes (
  device_hash TEXT PRIMARY KEY,
  user_code TEXT NOT NULL UNIQUE,
  user TEXT,
  state TEXT NOT NULL,
  interval_ms INTEGER NOT NULL,
  polled_at INTEGER NOT NULL DEFAULT 0,
  expires_at INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS sessions (
  session_hash TEXT PRIMARY KEY,
  user TEXT NOT NULL,
  expires_at INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS used_ids (
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (kind, id)
);
`;
