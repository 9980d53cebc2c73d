import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createEventLog } from "../../src/daemon/journal/event-log.ts";
import { createLedger } from "../../src/daemon/journal/ledger.ts";
import { createAppendWhenRoom, DEFAULT_LIMITS } from "../../src/daemon/journal/room.ts";
import { prepareSchema } from "../../src/daemon/journal/schema.ts";
import { createWake } from "../../src/daemon/journal/wake.ts";
import { openDb } from "../../src/storage/open-db.ts";
import { delta, dispatchOf, thrownBy } from "./journal-home.ts";

test("a full disk makes the harness wait; when there is room again nothing is missing", async () => {
  const dir = mkdtempSync(join(tmpdir(), "deco-disk-"));
  const path = join(dir, "journal.db");
  const db = openDb(path);
  try {
    prepareSchema(db, path, Date.now());
    const ledger = createLedger(db, Date.now);
    const log = createEventLog(db, ledger, Date.now);
    const append: typeof log.append = (...args) => log.append(...args);
    const limits = DEFAULT_LIMITS;
    const say = createAppendWhenRoom({ log, ledger, append, limits, wake: createWake() });
    ledger.insert(dispatchOf());
    db.exec("PRAGMA max_page_count = 40");
    const signal = AbortSignal.timeout(10_000);
    let last: Promise<unknown> = Promise.resolve();
    for (let index = 0; index < 60; index++) {
      last = last.then(() => say("run-1", 1, [delta(`${index}-`.repeat(1000))], signal));
    }
    const full = thrownBy(() => {
      for (;;) append("run-1", 1, [delta("x".repeat(5000))]);
    });
    expect(full.code).toBe("storage_failed");
    await Promise.race([last, Bun.sleep(200)]);
    const before = ledger.find("run-1")?.lastSeq ?? 0;
    db.exec("PRAGMA max_page_count = 100000");
    await last;
    const rows = log.read("run-1", 1, 0, 1000);
    expect(rows.map((row) => row.seq)).toEqual(rows.map((_, index) => index + 1));
    expect(rows).toHaveLength(before + 60);
    const tail: string[] = rows.slice(before).map((row) => JSON.parse(row.data).payload.content);
    expect(tail.map((content) => Number.parseInt(content, 10))).toEqual([...Array(60).keys()]);
  } finally {
    db.close();
    rmSync(dir, { recursive: true, force: true });
  }
});

test("a journal of a newer version is refused, not rewritten", () => {
  const dir = mkdtempSync(join(tmpdir(), "deco-disk-"));
  const path = join(dir, "journal.db");
  const db = openDb(path);
  try {
    db.exec("PRAGMA user_version = 99");
    expect(thrownBy(() => prepareSchema(db, path, Date.now())).message).toContain("newer version");
  } finally {
    db.close();
    rmSync(dir, { recursive: true, force: true });
  }
});
