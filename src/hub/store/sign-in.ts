import { z } from "zod";
import type { Db } from "../../storage/open-db.ts";

const DeviceState = z.enum(["pending", "approved", "denied"]);

export interface DeviceCode {
  readonly userCode: string;
  /** Who approved it. */
  readonly user: string | undefined;
  readonly state: z.infer<typeof DeviceState>;
  readonly intervalMs: number;
  readonly polledAt: number;
  readonly expiresAt: number;
}

/** Sessions, device codes and ids that may be used once. Codes and cookies are kept as hashes. */
export interface SignInStore {
  putDevice(deviceHash: string, code: DeviceCode): void;
  device(deviceHash: string): DeviceCode | undefined;
  removeDevice(deviceHash: string): void;
  /** Sets the answer of a pending code; false when there is none. */
  decide(userCode: string, user: string, approve: boolean, now: number): boolean;
  putSession(sessionHash: string, user: string, expiresAt: number): void;
  sessionUser(sessionHash: string, now: number): string | undefined;
  removeSession(sessionHash: string): void;
  /** True the first time that an id is seen. */
  useOnce(kind: "proof" | "code", id: string, expiresAt: number): boolean;
  removeExpired(now: number): void;
}

export function signInStore(db: Db): SignInStore {
  const putDevice = db.prepare(`INSERT OR REPLACE INTO device_codes
    (device_hash, user_code, user, state, interval_ms, polled_at, expires_at) VALUES (?,?,?,?,?,?,?)`);
  const device = db.prepare("SELECT * FROM device_codes WHERE device_hash = ?");
  const removeDevice = db.prepare("DELETE FROM device_codes WHERE device_hash = ?");
  const decide = db.prepare(`UPDATE device_codes SET state = ?, user = ?
    WHERE user_code = ? AND state = 'pending' AND expires_at > ?`);
  const putSession = db.prepare(
    "INSERT INTO sessions (session_hash, user, expires_at) VALUES (?,?,?)",
  );
  const session = db.prepare("SELECT user FROM sessions WHERE session_hash = ? AND expires_at > ?");
  const removeSession = db.prepare("DELETE FROM sessions WHERE session_hash = ?");
  const use = db.prepare("INSERT OR IGNORE INTO used_ids (kind, id, expires_at) VALUES (?,?,?)");
  const expired = ["device_codes", "sessions", "used_ids", "idempotency"].map((table) =>
    db.prepare(`DELETE FROM ${table} WHERE expires_at < ?`),
  );
  return {
    putDevice: (hash, c) =>
      void putDevice.run(
        hash,
        c.userCode,
        c.user ?? null,
        c.state,
        c.intervalMs,
        c.polledAt,
        c.expiresAt,
      ),
    device: (hash) => {
      const row = device.get(hash);
      if (row === undefined) return undefined;
      return {
        userCode: String(row["user_code"]),
        user: row["user"] === null ? undefined : String(row["user"]),
        state: DeviceState.parse(row["state"]),
        intervalMs: Number(row["interval_ms"]),
        polledAt: Number(row["polled_at"]),
        expiresAt: Number(row["expires_at"]),
      };
    },
    removeDevice: (hash) => void removeDevice.run(hash),
    decide: (userCode, user, approve, now) =>
      decide.run(approve ? "approved" : "denied", user, userCode, now).changes === 1,
    putSession: (hash, user, expiresAt) => void putSession.run(hash, user, expiresAt),
    sessionUser: (hash, now) => {
      const row = session.get(hash, now);
      return row === undefined ? undefined : String(row["user"]);
    },
    removeSession: (hash) => void removeSession.run(hash),
    useOnce: (kind, id, expiresAt) => use.run(kind, id, expiresAt).changes === 1,
    removeExpired: (now) => {
      for (const statement of expired) statement.run(now);
    },
  };
}
