import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DecoError } from "../../src/protocol/errors.ts";
import { openDb, sqliteCode } from "../../src/storage/open-db.ts";

/** What every SQLite driver must do; run in process on Bun and as a bundle on Node. */
export const openDbPromises: Record<string, (dir: string) => Promise<void> | void> = {
  "text, blobs, null and integers beyond 2^31 come back as they went in": (dir) => {
    const db = openDb(join(dir, "a.db"));
    db.exec("CREATE TABLE t (i INTEGER, b BLOB, s TEXT)");
    const insert = db.prepare("INSERT INTO t VALUES (?, ?, ?)");
    const epoch = 1_795_223_351_476;
    assert.equal(insert.run(epoch, new Uint8Array([0, 1, 255]), "ü\n\u2028").changes, 1);
    insert.run(-1, new Uint8Array(0), null);
    const rows = db.prepare("SELECT i, b, s, typeof(i) AS kind FROM t ORDER BY i DESC").all();
    assert.deepEqual(rows, [
      { i: epoch, b: new Uint8Array([0, 1, 255]), s: "ü\n\u2028", kind: "integer" },
      { i: -1, b: new Uint8Array(0), s: null, kind: "integer" },
    ]);
    assert.deepEqual(db.prepare("SELECT s FROM t WHERE i = ?").get(-1), { s: null });
    assert.equal(db.prepare("SELECT s FROM t WHERE i = ?").get(7), undefined);
    assert.equal(db.prepare("SELECT ? AS v, typeof(?) AS kind").get(5, 5)?.["v"], 5);
    db.close();
  },
  "a transaction that throws leaves nothing, and a nested one joins the outer": (dir) => {
    const db = openDb(join(dir, "a.db"));
    db.exec("CREATE TABLE t (i INTEGER PRIMARY KEY)");
    const insert = db.prepare("INSERT INTO t VALUES (?)");
    assert.throws(() =>
      db.transaction(() => {
        insert.run(1);
        db.transaction(() => insert.run(2));
        throw new Error("no");
      }),
    );
    assert.equal(db.prepare("SELECT count(*) AS n FROM t").get()?.["n"], 0);
    assert.equal(
      db.transaction(() => insert.run(3).changes),
      1,
    );
    assert.equal(db.prepare("SELECT count(*) AS n FROM t").get()?.["n"], 1);
    db.close();
  },
  "a broken constraint is storage_failed and says which": (dir) => {
    const db = openDb(join(dir, "a.db"));
    db.exec("CREATE TABLE t (i INTEGER PRIMARY KEY)");
    const insert = db.prepare("INSERT INTO t VALUES (?)");
    insert.run(1);
    const error = thrown(() => insert.run(1));
    assert.equal(error.code, "storage_failed");
    assert.equal(sqliteCode(error), 19);
    db.close();
  },
  "WAL and FULL sync hold, and two connections see each other's commits": (dir) => {
    const path = join(dir, "a.db");
    const one = openDb(path);
    const two = openDb(path, { synchronous: "NORMAL" });
    one.exec("CREATE TABLE t (i INTEGER)");
    const read = two.prepare("SELECT count(*) AS n FROM t");
    assert.equal(read.get()?.["n"], 0);
    one.prepare("INSERT INTO t VALUES (?)").run(1);
    // A statement that was not reset would still see its old snapshot here.
    assert.equal(read.get()?.["n"], 1);
    two.prepare("INSERT INTO t VALUES (?)").run(2);
    assert.equal(one.prepare("SELECT count(*) AS n FROM t").get()?.["n"], 2);
    assert.equal(one.prepare("PRAGMA journal_mode").get()?.["journal_mode"], "wal");
    assert.equal(one.prepare("PRAGMA synchronous").get()?.["synchronous"], 2);
    assert.equal(two.prepare("PRAGMA synchronous").get()?.["synchronous"], 1);
    one.close();
    two.close();
  },
  "what is no database, or damaged, is storage_failed": (dir) => {
    const path = join(dir, "a.db");
    writeFileSync(path, "certainly not a database file, just some words of text".repeat(100));
    const noDatabase = thrown(() => openDb(path));
    assert.equal(noDatabase.code, "storage_failed");
    assert.match(noDatabase.fix, /move it away/);
    assert.equal(thrown(() => openDb(join(dir, "none", "a.db"))).code, "storage_failed");

    const torn = join(dir, "torn.db");
    const db = openDb(torn);
    db.exec("CREATE TABLE t (i INTEGER, s TEXT)");
    const insert = db.prepare("INSERT INTO t VALUES (?, ?)");
    db.transaction(() => {
      for (let i = 0; i < 500; i++) insert.run(i, "x".repeat(200));
    });
    db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    db.close();
    truncateSync(torn, 20_480);
    const error = thrown(() => openDb(torn).prepare("SELECT sum(length(s)) FROM t").all());
    assert.equal(error.code, "storage_failed");
  },
  "a closed database refuses with storage_failed, and closing twice is fine": (dir) => {
    const db = openDb(join(dir, "a.db"));
    const statement = db.prepare("SELECT 1 AS one");
    db.close();
    db.close();
    assert.equal(thrown(() => statement.get()).code, "storage_failed");
    assert.equal(thrown(() => db.exec("SELECT 1")).code, "storage_failed");
  },
  "one process holds an exclusive file, until it closes it": (dir) => {
    const path = join(dir, "lock.db");
    const first = openDb(path, { exclusive: true });
    assert.equal(thrown(() => openDb(path, { exclusive: true })).code, "already_running");
    first.close();
    openDb(path, { exclusive: true }).close();
  },
};

/** Runs every promise in a directory of its own; also the entry of the Node bundle. */
export async function runAll(): Promise<string[]> {
  const failures: string[] = [];
  for (const [name, promise] of Object.entries(openDbPromises)) {
    const dir = mkdtempSync(join(tmpdir(), "deco-db-"));
    try {
      await promise(dir);
    } catch (error) {
      failures.push(`${name}: ${error instanceof Error ? error.stack : String(error)}`);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  }
  return failures;
}

/** Runs a program to its end. */
export async function runProgram(
  command: string,
  args: readonly string[],
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => (stdout += String(chunk)));
  child.stderr.on("data", (chunk) => (stderr += String(chunk)));
  await once(child, "close");
  return { code: child.exitCode, stdout, stderr };
}

function thrown(fn: () => unknown): DecoError {
  try {
    fn();
  } catch (error) {
    if (error instanceof DecoError) return error;
    throw error;
  }
  throw new Error("it did not throw");
}
