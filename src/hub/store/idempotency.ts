import type { Db } from "../../storage/open-db.ts";

export interface IdempotencyScope {
  readonly user: string;
  readonly path: string;
  readonly key: string;
}

export interface IdempotencyStore {
  get(scope: IdempotencyScope, now: number): { bodyHash: string; runId: string } | undefined;
  put(scope: IdempotencyScope, o: { bodyHash: string; runId: string; expiresAt: number }): void;
  /** Frees the key of a run that was refused, so that the same request may be tried again. */
  removeOfRun(runId: string): void;
}

export function idempotencyStore(db: Db): IdempotencyStore {
  const get = db.prepare(
    "SELECT body_hash, run_id FROM idempotency WHERE user = ? AND path = ? AND key = ? AND expires_at > ?",
  );
  const put = db.prepare(`INSERT OR REPLACE INTO idempotency
    (user, path, key, body_hash, run_id, expires_at) VALUES (?,?,?,?,?,?)`);
  const remove = db.prepare("DELETE FROM idempotency WHERE run_id = ?");
  return {
    get: ({ user, path, key }, now) => {
      const row = get.get(user, path, key, now);
      if (row === undefined) return undefined;
      return { bodyHash: String(row["body_hash"]), runId: String(row["run_id"]) };
    },
    put: ({ user, path, key }, o) =>
      void put.run(user, path, key, o.bodyHash, o.runId, o.expiresAt),
    removeOfRun: (runId) => void remove.run(runId),
  };
}
