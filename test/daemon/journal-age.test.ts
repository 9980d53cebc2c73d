import { afterEach, beforeEach, expect, test } from "bun:test";
import { statSync } from "node:fs";
import { CHAIN_START, nextChain } from "../../src/protocol/chain.ts";
import { openDb } from "../../src/storage/open-db.ts";
import { delta, dispatchOf, JournalHome, thrownBy } from "./journal-home.ts";

let home: JournalHome;

beforeEach(() => {
  home = new JournalHome();
});
afterEach(() => home[Symbol.dispose]());

/** The columns that a journal of this version did not have yet. */
const LACKING = [
  { version: 1, columns: ["started_at", "slept_ms", "settled_no"] },
  { version: 2, columns: ["settled_no"] },
];

for (const { version, columns } of LACKING) {
  test(`a journal of version ${version} goes on in this one: runs, events, chain and cancels`, () => {
    const { journal } = home;
    journal.createRun(dispatchOf());
    journal.append("run-1", 1, [{ type: "run.started", payload: {} }, delta("a"), delta("b")]);
    journal.ack("run-1", { attempt: 1, seq: 1, chain: home.chainOf(1) });
    journal.createRun(dispatchOf({ runId: "run-0" }));
    journal.append("run-0", 1, [{ type: "run.completed", payload: {} }]);
    journal.markCancel("run-2", 1);
    const before = journal.read("run-1", 1, 1);
    makeOlder(version, columns);

    const upgraded = home.reopen();
    expect(upgraded.read("run-1", 1, 1)).toEqual(before);
    expect(upgraded.createRun(dispatchOf()).type).toBe("attached");
    expect(upgraded.record("run-1")?.sleptMs).toBe(0);
    expect(upgraded.createRun(dispatchOf({ runId: "run-2" })).run.status).toBe("cancelled");
    upgraded.append("run-1", 1, [{ type: "run.completed", payload: {} }]);
    const { lastChain, lastSeq } = upgraded.record("run-1") ?? { lastChain: "", lastSeq: 0 };
    upgraded.ack("run-1", { attempt: 1, seq: lastSeq, chain: lastChain });
    expect(upgraded.heartbeatRuns().map(({ runId }) => runId)).toEqual(["run-0", "run-2"]);
    expect(home.reopen().settledRuns(0)).toMatchObject({ total: 1, runs: [{ runId: "run-1" }] });
  });
}

/** Takes from the file what came later. */
function makeOlder(version: number, columns: readonly string[]): void {
  home.journal.close();
  const db = openDb(home.path);
  db.exec("DROP TABLE journal; DROP INDEX runs_settled;");
  for (const column of columns) db.exec(`ALTER TABLE runs DROP COLUMN ${column}`);
  db.exec(`PRAGMA user_version = ${version}`);
  db.close();
}

test("what settled runs were asked is not kept: a month of long prompts is a small file", () => {
  const prompt = "word ".repeat(20_000);
  for (let i = 0; i < 60; i += 1) settle(dispatchOf({ runId: `run-${i}`, prompt, user: "ada" }));
  const again = dispatchOf({ runId: "run-7", prompt, user: "ada" });
  expect(home.journal.createRun(again).type).toBe("attached");
  const other = { ...again, prompt: "false" };
  expect(thrownBy(() => home.journal.createRun(other)).code).toBe("run_conflict");
  expect(home.journal.settledRuns(7).runs[0]).toMatchObject({ runId: "run-7", user: "ada" });
  home.journal.close();
  expect(statSync(home.path).size).toBeLessThan(2 * 1024 * 1024);
});

function settle(dispatch: ReturnType<typeof dispatchOf>): void {
  const { journal } = home;
  const { runId } = dispatch;
  journal.createRun(dispatch);
  journal.append(runId, 1, [{ type: "run.completed", payload: {} }]);
  const [line] = journal.read(runId, 1, 0);
  journal.ack(runId, { attempt: 1, seq: 1, chain: nextChain(CHAIN_START, line?.data ?? "") });
}

test("a heartbeat stays below what a hub takes, however much is not acked: what works comes first", () => {
  home.journal.createRun(dispatchOf());
  home.journal.close();
  const db = openDb(home.path);
  db.exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)
    INSERT INTO runs (run_id, attempt, body, body_sha256, status, ended, last_seq, last_chain,
      acked_chain, created_at, updated_at)
    SELECT printf('%0128d', i), 1, body, '', 'completed', 1, 1, last_chain, acked_chain, 0, updated_at
    FROM n JOIN runs`);
  db.close();
  const runs = home.reopen().heartbeatRuns();
  expect(JSON.stringify(runs).length).toBeLessThan(512 * 1024);
  expect(runs[0]).toMatchObject({ runId: "run-1", status: "queued" });
});
