import { createRequire } from "node:module";
import { DecoError } from "../protocol/errors.ts";

/** What a column may hold. Integers beyond 2^53 are refused by the drivers: send them as text. */
type SqlValue = string | number | bigint | null | Uint8Array;
export type SqlRow = Record<string, SqlValue>;

interface Statement {
  run(...args: SqlValue[]): { readonly changes: number };
  get(...args: SqlValue[]): SqlRow | undefined;
  all(...args: SqlValue[]): SqlRow[];
}

/** One SQLite file. Every call is synchronous; every failure is a DecoError. */
export interface Db {
  exec(sql: string): void;
  /** Prepare once and keep: a statement lives as long as its database. */
  prepare(sql: string): Statement;
  /** `BEGIN IMMEDIATE` … `COMMIT`, rolled back when `fn` throws; inside another one it joins that. */
  transaction<T>(fn: () => T): T;
  close(): void;
}

export interface OpenDbOptions {
  /** `FULL` (default): a commit is on disk when the call returns. `NORMAL`: a power cut may lose the last ones. */
  readonly synchronous?: "FULL" | "NORMAL";
  /** Holds the file's lock until `close()`; the kernel drops it when the process dies. */
  readonly exclusive?: boolean;
}

/**
 * Opens (and makes) one SQLite file in WAL mode, by `node:sqlite` where the runtime has it
 * (Bun, Node ≥ 22), else by `libsql`; both behave alike behind this interface.
 *
 * @param path - A file in an existing directory, or `:memory:`.
 * @throws DecoError `storage_failed` when the file can't be opened, is no database or is damaged;
 *   `already_running` when `exclusive` and another process holds it.
 */
export function openDb(path: string, options: OpenDbOptions = {}): Db {
  const exclusive = options.exclusive ?? false;
  const raw = attempt(path, () => openRaw(path));
  try {
    attempt(path, () => {
      raw.exec(`PRAGMA busy_timeout = ${exclusive ? 0 : 5000}`);
      if (exclusive) {
        // A rollback journal: WAL would let a second process open the file and read.
        raw.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT");
      } else if (path !== ":memory:") {
        raw.prepare("PRAGMA journal_mode = WAL").get();
      }
      raw.exec(`PRAGMA synchronous = ${options.synchronous ?? "FULL"}; PRAGMA foreign_keys = ON`);
    });
  } catch (error) {
    raw.close();
    if (exclusive && sqliteCode(error) === SQLITE_BUSY) {
      throw new DecoError("already_running", `another process holds ${path}`, { cause: error });
    }
    throw error;
  }
  return wrap(path, raw);
}

const SQLITE_BUSY = 5;
/** SQLITE_CORRUPT and SQLITE_NOTADB: no free disk mends these. */
const DAMAGED: ReadonlySet<number> = new Set([11, 26]);

/** SQLite's primary result code of a failed call (19 is a broken constraint), else undefined. */
export function sqliteCode(error: unknown): number | undefined {
  const cause = error instanceof DecoError ? error.cause : error;
  if (typeof cause !== "object" || cause === null) return undefined;
  // `errcode` by node:sqlite, `rawCode` by libsql; both may be extended codes.
  const code = "errcode" in cause ? cause.errcode : "rawCode" in cause ? cause.rawCode : undefined;
  return typeof code === "number" ? code & 0xff : undefined;
}

/** libsql gives blobs as ArrayBuffer and puts an object `_metadata` into a row. */
type RawRow = Record<string, SqlValue | ArrayBuffer>;

interface RawStatement {
  run(...args: SqlValue[]): { changes: number | bigint };
  get(...args: SqlValue[]): RawRow | undefined;
  all(...args: SqlValue[]): RawRow[];
}

interface RawDb {
  exec(sql: string): unknown;
  prepare(sql: string): RawStatement;
  close(): void;
}

interface Driver {
  new (path: string): RawDb;
}

function openRaw(path: string): RawDb {
  const sqlite = builtinSqlite();
  if (sqlite) return new sqlite(path);
  return new (loadLibsql(createRequire(import.meta.url)))(path);
}

/**
 * The package is one of ours; its native part is an optional one, by platform, and may be left out.
 *
 * @throws DecoError `storage_failed` with the fix for an installation without it.
 */
export function loadLibsql(load: (name: string) => Driver): Driver {
  try {
    return load("libsql");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    throw new DecoError("storage_failed", `the native part of libsql can't be loaded: ${why}`, {
      cause,
      fix: "Run `npm ci` again, without --omit=optional, or use Node 22 or newer, or Bun.",
    });
  }
}

/** `node:sqlite` without its ExperimentalWarning on stderr (Node 22 and 24 print one at load). */
function builtinSqlite(): Driver | undefined {
  const original = Object.getOwnPropertyDescriptor(process, "emitWarning");
  process.emitWarning = () => {};
  try {
    const driver: unknown = process.getBuiltinModule("node:sqlite")?.DatabaseSync;
    return isDriver(driver) ? driver : undefined;
  } finally {
    if (original) Object.defineProperty(process, "emitWarning", original);
  }
}

function isDriver(value: unknown): value is Driver {
  return typeof value === "function";
}

function wrap(path: string, raw: RawDb): Db {
  let open = true;
  let inside = false;
  const guard = <T>(fn: () => T): T => {
    if (!open) throw new DecoError("storage_failed", `${path} is closed`);
    return attempt(path, fn);
  };
  return {
    exec: (sql) => guard(() => void raw.exec(sql)),
    prepare: (sql) => {
      const statement = guard(() => raw.prepare(sql));
      return {
        run: (...args) => ({ changes: Number(guard(() => statement.run(...args)).changes) }),
        get: (...args) => {
          const row = guard(() => statement.get(...args));
          return row && plain(row);
        },
        all: (...args) => guard(() => statement.all(...args)).map(plain),
      };
    },
    transaction: (fn) => {
      if (inside) return fn();
      guard(() => raw.exec("BEGIN IMMEDIATE"));
      inside = true;
      try {
        const result = fn();
        guard(() => raw.exec("COMMIT"));
        return result;
      } catch (error) {
        rollBack(raw);
        throw error;
      } finally {
        inside = false;
      }
    },
    close: () => {
      if (!open) return;
      open = false;
      raw.close();
    },
  };
}

/** A full disk may have rolled back already; the first error is the one worth telling. */
function rollBack(raw: RawDb): void {
  try {
    raw.exec("ROLLBACK");
  } catch {
    // Nothing was open any more.
  }
}

function plain(row: RawRow): SqlRow {
  const result: SqlRow = {};
  for (const [name, value] of Object.entries(row)) {
    if (name === "_metadata") continue;
    result[name] = value instanceof ArrayBuffer ? new Uint8Array(value) : value;
  }
  return result;
}

function attempt<T>(path: string, fn: () => T): T {
  try {
    return fn();
  } catch (thrown) {
    if (thrown instanceof DecoError) throw thrown;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    const broken = DAMAGED.has(sqliteCode(thrown) ?? 0);
    throw new DecoError("storage_failed", `${path}: ${message}`, {
      cause: thrown,
      ...(broken
        ? { fix: `Put a backup of ${path} in its place, or move it away to start empty.` }
        : {}),
    });
  }
}
