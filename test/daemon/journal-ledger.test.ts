import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { closeSync, openSync, statSync, writeSync } from "node:fs";
import { type Journal, openJournal } from "../../src/daemon/journal.ts";
import { delta, dispatchOf, JournalHome, thrownBy } from "./journal-home.ts";

let home: JournalHome;
let journal: Journal;
const never = new AbortController().signal;

beforeEach(() => {
  home = new JournalHome();
  ({ journal } = home);
});
afterEach(() => home[Symbol.dispose]());

describe("the ledger (LESSONS 17)", () => {
  test("the same body attaches in whatever order its keys come, another one is run_conflict", () => {
    expect(journal.createRun(dispatchOf({ sandbox: { env: { A: "1", B: "2" } } })).type).toBe(
      "created",
    );
    journal = home.reopen();
    const again = { sandbox: { env: { B: "2", A: "1" } }, ...dispatchOf() };
    expect(journal.createRun(again).type).toBe("attached");
    expect(thrownBy(() => journal.createRun(dispatchOf({ prompt: "false" }))).code).toBe(
      "run_conflict",
    );
    expect(journal.dispatch("run-1", 1)).toEqual(again);
  });

  test("a lower attempt is attempt_stale, a higher one has numbers of its own", () => {
    journal.createRun(dispatchOf());
    journal.append("run-1", 1, [delta("a")]);
    expect(journal.createRun(dispatchOf({ attempt: 2 })).type).toBe("created");
    expect(journal.append("run-1", 2, [delta("a")]).map((e) => e.seq)).toEqual([1]);
    expect(thrownBy(() => journal.createRun(dispatchOf())).code).toBe("attempt_stale");
    expect(thrownBy(() => journal.markCancel("run-1", 1)).code).toBe("attempt_stale");
    expect(journal.unfinished().map((r) => r.attempt)).toEqual([1, 2]);
  });

  test("a cancel that comes before its run ends that run at once, over a restart (LESSONS 18)", () => {
    expect(journal.markCancel("run-1", 1)).toBe("unknown");
    expect(journal.markCancel("run-2")).toBe("unknown");
    journal = home.reopen();
    const { run } = journal.createRun(dispatchOf());
    expect(run).toMatchObject({ status: "cancelled", ended: true, lastSeq: 1 });
    expect(JSON.parse(journal.read("run-1", 1, 0)[0]?.data ?? "")).toMatchObject({
      type: "run.cancelled",
      payload: { processesLeft: 0 },
    });
    expect(journal.createRun(dispatchOf({ runId: "run-2", attempt: 7 })).run.ended).toBe(true);
    // The cancel was for attempt 1; the hub asked for another one knowingly.
    expect(journal.createRun(dispatchOf({ attempt: 2 })).run.ended).toBe(false);
  });

  test("a cancel of a live run is kept over a restart", () => {
    journal.createRun(dispatchOf());
    expect(journal.markCancel("run-1")).toBe("marked");
    journal = home.reopen();
    expect(journal.cancelRequested("run-1", 1)).toBe(true);
  });

  test("how far a run got is kept, piece by piece", () => {
    journal.createRun(dispatchOf());
    journal.setProgress("run-1", 1, { phase: "provisioning", handle: "r-1", provider: "process" });
    journal.setProgress("run-1", 1, { phase: "running", harnessRunId: "run_x" });
    journal = home.reopen();
    expect(journal.unfinished()).toMatchObject([
      { phase: "running", handle: "r-1", provider: "process", harnessRunId: "run_x" },
    ]);
  });

  test("what ended a month ago and is acked is forgotten, the rest is not", () => {
    const day = 24 * 3600 * 1000;
    journal = home.reopen({ now: () => Date.now() - 40 * day });
    journal.createRun(dispatchOf());
    journal.append("run-1", 1, [{ type: "run.completed", payload: {} }]);
    journal.createRun(dispatchOf({ runId: "run-2" }));
    journal.ack("run-1", { attempt: 1, seq: 1, chain: home.chainOf(1) });
    journal = home.reopen();
    expect(journal.list().map((run) => run.runId)).toEqual(["run-2"]);
  });
});

describe("a full journal (LESSONS 16)", () => {
  test("makes the harness wait, says so, and goes on behind the ack without losing an event", async () => {
    journal = home.reopen({ limits: { maxRunBytes: 2000 } });
    journal.createRun(dispatchOf());
    const say = async (content: string) =>
      await journal.appendWhenRoom("run-1", 1, [delta(content)], never);
    await say("x".repeat(900));
    let done = false;
    const second = say("y".repeat(900)).then(() => (done = true));
    await journal.waitFor("run-1", 1, 1, never);
    expect(journal.read("run-1", 1, 0).map((r) => r.type)).toEqual([
      "assistant.message.delta",
      "run.suspended",
    ]);
    expect(done).toBe(false);
    journal.ack("run-1", { attempt: 1, seq: 2, chain: home.chainOf(2) });
    await second;
    expect(journal.read("run-1", 1, 2).map((r) => r.type)).toEqual([
      "run.resumed",
      "assistant.message.delta",
    ]);
  });

  test("one run that is full does not stop another; all together are bounded as well", async () => {
    journal = home.reopen({ limits: { maxRunBytes: 2000, maxTotalBytes: 3000 } });
    for (const runId of ["run-1", "run-2", "run-3"]) journal.createRun(dispatchOf({ runId }));
    const say = async (runId: string, signal = never) =>
      await journal.appendWhenRoom(runId, 1, [delta("x".repeat(1000))], signal);
    await say("run-1");
    await say("run-2");
    const abort = new AbortController();
    const third = say("run-3", abort.signal);
    await journal.waitFor("run-3", 1, 0, never);
    abort.abort(new Error("cancelled"));
    await expect(third).rejects.toThrow("cancelled");
    expect(journal.append("run-3", 1, [{ type: "run.cancelled", payload: {} }])).toHaveLength(1);
  });

  test("an event larger than the limit passes when nothing else is held", async () => {
    journal = home.reopen({ limits: { maxRunBytes: 100 } });
    journal.createRun(dispatchOf());
    const big = await journal.appendWhenRoom("run-1", 1, [delta("x".repeat(500))], never);
    expect(big).toHaveLength(1);
  });
});

test("a damaged journal is storage_failed with what to do, not an empty one", () => {
  journal.createRun(dispatchOf());
  journal.append(
    "run-1",
    1,
    Array.from({ length: 200 }, (_, i) => delta(`${i}`.repeat(200))),
  );
  journal.close();
  const { path } = home;
  const file = openSync(path, "r+");
  writeSync(file, Buffer.alloc(4096, 0xee), 0, 4096, statSync(path).size - 8192);
  closeSync(file);
  const error = thrownBy(() => openJournal({ path }));
  expect(error.code).toBe("storage_failed");
  expect(error.message).toContain(path);
});

test("damage among the events of a full journal hides no other run, and is said to who reads there", () => {
  const content = "x".repeat(512 * 1024);
  const runIds = Array.from({ length: 8 }, (_, run) => `run-${run}`);
  for (const runId of runIds) {
    journal.createRun(dispatchOf({ runId }));
    const drafts = Array.from({ length: 20 }, () => delta(content));
    journal.append(runId, 1, drafts);
  }
  journal.close();
  const { path } = home;
  expect(statSync(path).size).toBeGreaterThan(64 * 2 ** 20);
  // The tree of the last run's events ends the file; all but its overflow pages are destroyed.
  const file = openSync(path, "r+");
  const bytes = 4 * 2 ** 20;
  writeSync(file, Buffer.alloc(bytes, 0xee), 0, bytes, statSync(path).size - bytes);
  closeSync(file);
  journal = home.reopen();
  expect(journal.unfinished().map(({ runId }) => runId)).toEqual(runIds);
  expect(journal.read("run-0", 1, 0, 100)).toHaveLength(20);
  const error = thrownBy(() => journal.read("run-7", 1, 0, 100));
  expect(error.code).toBe("storage_failed");
  expect(error.message).toContain(path);
});
