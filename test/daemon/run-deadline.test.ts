import { Database } from "bun:sqlite";
import { afterEach, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import { openJournal } from "../../src/daemon/journal.ts";
import { MemoryProvider } from "../support/memory-provider.ts";
import { ExecutorHome, typesOf } from "./executor-home.ts";

let home: ExecutorHome;
let clock: number;
const now = () => clock;

beforeEach(() => {
  clock = Date.now();
  home = new ExecutorHome(new MemoryProvider(), { now });
});
afterEach(() => home[Symbol.asyncDispose]());

const overTime = { type: "run.failed", payload: { code: "budget_exceeded", leg: "harness" } };

test("a run's time does not count what it waited for its turn", async () => {
  await home.restart({ now, limits: { maxRuns: 1 } });
  home.run("hang", { runId: "first" });
  home.run("hang", { runId: "second", options: { timeoutSeconds: 60 } });
  await home.until("run.queued", "second");
  clock += 3_600_000;
  await home.restart({ now, limits: { maxRuns: 1 } });
  home.executor.cancel("first");
  await home.until("assistant.message.delta", "second");
  await home.restart({ now });
  home.provider.harness(home.executor.active()[0]?.handle).emit("run.completed", { output: "ok" });
  expect((await home.end("second")).at(-1)?.type).toBe("run.completed");
});

test("a run's time goes on while the daemon is away, from the run's first start", async () => {
  home.run("hang", { options: { timeoutSeconds: 60 } });
  await home.until("assistant.message.delta");
  clock += 59_000;
  await home.restart({ now });
  home.provider.harness().emit("tool.output.delta", {});
  await home.until("tool.output.delta");
  clock += 1000;
  await home.restart({ now });
  expect((await home.end()).at(-1)).toMatchObject(overTime);
});

test("the making of the sandbox, begun again after a restart, gives a run no more time", async () => {
  const never = Promise.withResolvers<void>();
  home.provider.gate = never.promise;
  home.run("hang", { options: { timeoutSeconds: 60 } });
  await home.until("sandbox.provisioning");
  clock += 60_000;
  await home.restart({ now });
  expect((await home.end()).at(-1)).toMatchObject(overTime);
});

test("a sleeping laptop is told in each run that worked, and its time stands still (LESSONS 1)", async () => {
  home.run("hang", { options: { timeoutSeconds: 60 } });
  await home.until("assistant.message.delta");
  const before = home.events().length;
  const fellAsleep = new Date(clock).toISOString();
  clock += 8 * 3_600_000;
  home.executor.slept(8 * 3_600_000);
  expect(home.events().slice(before)).toMatchObject([
    { type: "run.suspended", at: fellAsleep, payload: { reason: "sleep", at: fellAsleep } },
    { type: "run.resumed", payload: { reason: "sleep", sleptMs: 8 * 3_600_000 } },
  ]);
  expect(home.journal.state("run-1")?.status).toBe("running");
  await home.restart({ now });
  home.provider.harness().emit("run.completed", { output: "slept well" });
  expect((await home.end()).at(-1)?.payload).toMatchObject({ output: "slept well" });
});

test("a run that waits for its turn sleeps unnoticed", async () => {
  await home.restart({ now, limits: { maxRuns: 1 } });
  home.run("hang", { runId: "first" });
  home.run("hang", { runId: "second" });
  await home.until("run.queued", "second");
  home.executor.slept(60_000);
  expect(typesOf(home.events("second"))).toEqual(["run.queued"]);
});

test.each([1, 2])("a journal of version %d is read, and its runs go on", (version) => {
  const path = join(home.dir, "old.db");
  openJournal({ path }).close();
  const db = new Database(path);
  db.run("DROP INDEX runs_settled");
  db.run("DROP TABLE journal");
  db.run("ALTER TABLE runs DROP COLUMN settled_no");
  if (version === 1) {
    db.run("ALTER TABLE runs DROP COLUMN started_at");
    db.run("ALTER TABLE runs DROP COLUMN slept_ms");
  }
  db.run(`PRAGMA user_version = ${version}`);
  db.close();
  const journal = openJournal({ path });
  journal.createRun({ runId: "a", attempt: 1, harness: "shell", prompt: "p" });
  journal.setProgress("a", 1, { startedAt: 5, sleptMs: 2 });
  journal.setProgress("a", 1, { startedAt: 9, sleptMs: 3 });
  expect(journal.record("a")).toMatchObject({ startedAt: 5, sleptMs: 5 });
  expect(journal.settledRuns(0)).toMatchObject({ total: 0, runs: [] });
  journal.close();
});
