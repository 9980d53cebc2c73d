import type { Db, SqlRow } from "../../storage/open-db.ts";

/** What a thread's first run fixed, and where its sandboxes are. */
export interface ThreadRow {
  readonly user: string;
  readonly threadId: string;
  /** Undefined until the daemon has chosen one for the first run. */
  readonly provider: string | undefined;
  readonly harness: string;
  readonly branch: string | undefined;
  readonly firstRun: string;
  /** As stored; read it with `normalizeSandboxMap`. */
  readonly sandboxMap: unknown;
  readonly createdAt: number;
}

export interface ThreadStore {
  get(user: string, threadId: string): ThreadRow | undefined;
  put(row: ThreadRow): void;
  /** Takes back the pins of a first run that was refused. */
  removeOfRun(user: string, threadId: string, runId: string): void;
}

export function threadStore(db: Db): ThreadStore {
  const get = db.prepare("SELECT * FROM threads WHERE user = ? AND thread_id = ?");
  const put = db.prepare(`INSERT OR REPLACE INTO threads
    (user, thread_id, provider, harness, branch, first_run, sandbox_map, created_at) VALUES (?,?,?,?,?,?,?,?)`);
  const remove = db.prepare(
    "DELETE FROM threads WHERE user = ? AND thread_id = ? AND first_run = ?",
  );
  return {
    get: (user, threadId) => {
      const row = get.get(user, threadId);
      return row === undefined ? undefined : toThread(row);
    },
    put: (t) =>
      void put.run(
        t.user,
        t.threadId,
        t.provider ?? null,
        t.harness,
        t.branch ?? null,
        t.firstRun,
        JSON.stringify(t.sandboxMap),
        t.createdAt,
      ),
    removeOfRun: (user, threadId, runId) => void remove.run(user, threadId, runId),
  };
}

function toThread(row: SqlRow): ThreadRow {
  return {
    user: String(row["user"]),
    threadId: String(row["thread_id"]),
    provider: row["provider"] === null ? undefined : String(row["provider"]),
    harness: String(row["harness"]),
    branch: row["branch"] === null ? undefined : String(row["branch"]),
    firstRun: String(row["first_run"]),
    sandboxMap: JSON.parse(String(row["sandbox_map"])) as unknown,
    createdAt: Number(row["created_at"]),
  };
}
