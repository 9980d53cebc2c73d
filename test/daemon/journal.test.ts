import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Journal } from "../../src/daemon/journal.ts";
import { CHAIN_START, nextChain } from "../../src/protocol/chain.ts";
import { delta, dispatchOf, JournalHome, thrownBy } from "./journal-home.ts";

let home: JournalHome;
let journal: Journal;
const never = new AbortController().signal;

beforeEach(() => {
  home = new JournalHome();
  ({ journal } = home);
});
afterEach(() => home[Symbol.dispose]());

describe("the log", () => {
  test("numbers are contiguous from 1, over batches and a restart (LESSONS 14)", () => {
    journal.createRun(dispatchOf());
    expect(journal.append("run-1", 1, [delta("a"), delta("b")]).map((e) => e.seq)).toEqual([1, 2]);
    journal = home.reopen();
    expect(journal.append("run-1", 1, [delta("c")]).map((e) => e.seq)).toEqual([3]);
    expect(journal.read("run-1", 1, 1).map((r) => r.seq)).toEqual([2, 3]);
    expect(JSON.parse(journal.read("run-1", 1, 2)[0]?.data ?? "")).toEqual({
      seq: 3,
      runId: "run-1",
      type: "assistant.message.delta",
      at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      payload: { content: "c" },
    });
  });

  test("harnessd's own event id is kept in the same commit", () => {
    journal.createRun(dispatchOf());
    journal.append("run-1", 1, [delta("a", "run_x:0"), delta("b", "run_x:1")]);
    journal.append("run-1", 1, [{ type: "usage", payload: {} }]);
    journal = home.reopen();
    expect(journal.record("run-1")?.lastHarnessEventId).toBe("run_x:1");
  });

  test("the first terminal event wins, and nothing is appended behind it", () => {
    journal.createRun(dispatchOf());
    const ends = [
      { type: "run.completed", payload: {} },
      { type: "run.cancelled", payload: {} },
    ];
    expect(journal.append("run-1", 1, [delta("a"), ...ends]).map((e) => e.type)).toEqual([
      "assistant.message.delta",
      "run.completed",
    ]);
    expect(journal.append("run-1", 1, [delta("late")])).toEqual([]);
    expect(journal.state("run-1")).toEqual({
      runId: "run-1",
      attempt: 1,
      status: "completed",
      firstSeq: 1,
      lastSeq: 2,
    });
    expect(journal.markCancel("run-1", 1)).toBe("ended");
    expect(journal.state("run-1")?.status).toBe("completed");
  });

  test("a run's status follows from its events", () => {
    journal.createRun(dispatchOf());
    const statusAfter = (type: string, payload = {}) => {
      journal.append("run-1", 1, [{ type, payload }]);
      return journal.state("run-1")?.status;
    };
    expect(journal.state("run-1")?.status).toBe("queued");
    expect(statusAfter("run.started")).toBe("running");
    expect(statusAfter("tool.approval_required")).toBe("waiting");
    expect(statusAfter("run.suspended", { reason: "journal_full" })).toBe("waiting");
    expect(statusAfter("run.resumed", { reason: "journal_full" })).toBe("waiting");
    expect(statusAfter("run.resumed")).toBe("running");
    expect(statusAfter("run.waiting_for_user")).toBe("waiting");
    expect(statusAfter("tool.call.completed")).toBe("running");
    expect(statusAfter("run.failed")).toBe("failed");
  });

  test("reading ahead of the log is seq_ahead, an unknown run is run_not_found", () => {
    journal.createRun(dispatchOf());
    expect(journal.read("run-1", 1, 0)).toEqual([]);
    expect(thrownBy(() => journal.read("run-1", 1, 1)).code).toBe("seq_ahead");
    expect(thrownBy(() => journal.read("run-1", 2, 0)).code).toBe("run_not_found");
    expect(thrownBy(() => journal.append("nobody", 1, [delta("a")])).code).toBe("run_not_found");
    expect(thrownBy(() => journal.dispatch("nobody", 1)).code).toBe("run_not_found");
  });
});

describe("waiting", () => {
  test("a reader at the end wakes with the next event, and only then", async () => {
    journal.createRun(dispatchOf());
    let woken = false;
    const waiting = journal.waitFor("run-1", 1, 0, never).then(() => (woken = true));
    await Promise.resolve();
    expect(woken).toBe(false);
    journal.append("run-1", 1, [delta("a")]);
    await waiting;
    await journal.waitFor("run-1", 1, 0, never);
  });

  test("at the end of a finished run nobody waits (LESSONS 24)", async () => {
    journal.createRun(dispatchOf());
    journal.append("run-1", 1, [{ type: "run.completed", payload: {} }]);
    await journal.waitFor("run-1", 1, 1, never);
    expect(journal.read("run-1", 1, 1)).toEqual([]);
  });

  test("a reader that leaves is not kept", async () => {
    journal.createRun(dispatchOf());
    const abort = new AbortController();
    const waiting = journal.waitFor("run-1", 1, 0, abort.signal);
    abort.abort(new Error("gone"));
    expect(waiting).rejects.toThrow("gone");
    await waiting.catch(() => {});
  });
});

describe("acks", () => {
  beforeEach(() => {
    journal.createRun(dispatchOf());
    journal.append("run-1", 1, [delta("ä"), delta("b"), delta("c")]);
  });

  test("an ack with the right chain truncates as it goes, and what is gone is events_truncated", () => {
    const chain = home.chainOf(2);
    const before = journal.totalBytes();
    journal.ack("run-1", { attempt: 1, seq: 2, chain });
    expect(journal.totalBytes()).toBeLessThan(before);
    expect(journal.state("run-1")).toMatchObject({ firstSeq: 3, lastSeq: 3 });
    const error = thrownBy(() => journal.read("run-1", 1, 1));
    expect(error.code).toBe("events_truncated");
    expect(error.extensions).toMatchObject({ firstSeq: 3, chain });
    expect(journal.read("run-1", 1, 2).map((r) => r.seq)).toEqual([3]);
    journal = home.reopen();
    expect(journal.append("run-1", 1, [delta("d")]).map((e) => e.seq)).toEqual([4]);
  });

  test("another chain is chain_mismatch and truncates nothing", () => {
    const error = thrownBy(() =>
      journal.ack("run-1", { attempt: 1, seq: 2, chain: home.chainOf(1) }),
    );
    expect(error.code).toBe("chain_mismatch");
    expect(journal.read("run-1", 1, 0)).toHaveLength(3);
    expect(
      thrownBy(() => journal.ack("run-1", { attempt: 1, seq: 0, chain: home.chainOf(1) })).code,
    ).toBe("chain_mismatch");
  });

  test("an ack beyond the end is seq_ahead, an older one changes nothing", () => {
    const ahead = () => journal.ack("run-1", { attempt: 1, seq: 4, chain: CHAIN_START });
    expect(thrownBy(ahead).code).toBe("seq_ahead");
    const [first, second] = [home.chainOf(1), home.chainOf(2)];
    journal.ack("run-1", { attempt: 1, seq: 2, chain: second });
    journal.ack("run-1", { attempt: 1, seq: 1, chain: first });
    journal.ack("run-1", { attempt: 1, seq: 2, chain: second });
    expect(journal.state("run-1")?.firstSeq).toBe(3);
    expect(journal.ack("run-1", { attempt: 1, seq: 0, chain: CHAIN_START })).toBeUndefined();
  });

  test("a finished run that is acked to its end leaves the heartbeat, but not the ledger", () => {
    journal.append("run-1", 1, [{ type: "run.completed", payload: {} }]);
    const chain = home.chainOf(4);
    expect(journal.heartbeatRuns()).toEqual([
      { runId: "run-1", attempt: 1, lastSeq: 4, status: "completed" },
    ]);
    journal.ack("run-1", { attempt: 1, seq: 4, chain });
    expect(journal.heartbeatRuns()).toEqual([]);
    expect(journal.totalBytes()).toBe(0);
    expect(journal.list()).toMatchObject([{ runId: "run-1", firstSeq: 5, lastSeq: 4 }]);
    expect(journal.read("run-1", 1, 4)).toEqual([]);
    expect(journal.createRun(dispatchOf()).type).toBe("attached");
  });

  test("runs acked to their end are listed behind any number, in that order, over a restart", () => {
    const settle = (runId: string) => {
      journal.createRun(dispatchOf({ runId, user: "ada", thread: "t" }));
      journal.append(runId, 1, [{ type: "run.completed", payload: {} }]);
      const [row] = journal.read(runId, 1, 0);
      journal.ack(runId, { attempt: 1, seq: 1, chain: nextChain(CHAIN_START, row?.data ?? "") });
    };
    expect(journal.settledRuns(0)).toMatchObject({ through: 0, total: 0, runs: [] });
    for (const runId of ["run-c", "run-b", "run-a"]) settle(runId);
    const { journal: id } = journal.settledRuns(undefined);
    expect(journal.settledRuns(undefined)).toMatchObject({ after: 3, through: 3, runs: [] });
    journal = home.reopen();
    const page = journal.settledRuns(1);
    expect(page).toMatchObject({ journal: id, after: 1, through: 3, total: 3 });
    const common = { attempt: 1, lastSeq: 1, status: "completed", user: "ada", thread: "t" };
    expect(page.runs).toEqual([
      { runId: "run-b", harness: "shell", ...common, status: "completed" },
      { runId: "run-a", harness: "shell", ...common, status: "completed" },
    ]);
    for (let i = 0; i < 250; i += 1) settle(`more-${i}`);
    expect(journal.settledRuns(0)).toMatchObject({ after: 0, through: 200, total: 253 });
    expect(journal.settledRuns(200).runs).toHaveLength(53);
  });

  test("chain and byte count survive a restart", () => {
    const bytes = journal.totalBytes();
    expect(bytes).toBe(
      journal.read("run-1", 1, 0).reduce((sum, row) => sum + Buffer.byteLength(row.data), 0),
    );
    journal = home.reopen();
    expect(journal.totalBytes()).toBe(bytes);
    journal.append("run-1", 1, [delta("d")]);
    journal.ack("run-1", { attempt: 1, seq: 4, chain: home.chainOf(4) });
    expect(journal.totalBytes()).toBe(0);
  });
});
