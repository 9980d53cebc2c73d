import { afterEach, beforeEach, expect, test } from "bun:test";
import { openJournal } from "../../src/daemon/journal.ts";
import { deferred } from "../../src/protocol/deferred.ts";
import { openDb } from "../../src/storage/open-db.ts";
import { MemoryProvider } from "../support/memory-provider.ts";
import { ExecutorHome, typesOf } from "./executor-home.ts";

let home: ExecutorHome;

beforeEach(() => {
  home = new ExecutorHome(new MemoryProvider());
});
afterEach(() => home[Symbol.asyncDispose]());

test("a run outlives its daemon: the next one goes on where the journal ends (LESSONS 2)", async () => {
  home.run("hang");
  await home.until("assistant.message.delta");
  const harness = home.provider.harness();
  harness.emit("tool.output.delta", { content: "before" });
  await home.until("tool.output.delta");
  const before = home.events();
  await home.executor.close();
  harness.emit("tool.output.delta", { content: "while nobody listened" });
  await home.restart();
  harness.emit("tool.output.delta", { content: "after" });
  harness.emit("run.completed", { output: "all of it" });
  const events = await home.end();
  expect(events.slice(0, before.length)).toEqual(before);
  expect(events.slice(before.length).map((event) => event.payload["content"])).toEqual([
    "while nobody listened",
    "after",
    undefined,
  ]);
  expect(events.at(-1)).toMatchObject({ type: "run.completed", payload: { output: "all of it" } });
  expect(home.provider.ensured).toHaveLength(1);
});

test("a run that ended while the daemon was away gets its end (LESSONS 24)", async () => {
  home.run("hang");
  await home.until("assistant.message.delta");
  await home.executor.close();
  home.provider.harness().emit("run.completed", { output: "alone" });
  await home.restart();
  expect((await home.end()).at(-1)).toMatchObject({
    type: "run.completed",
    payload: { output: "alone" },
  });
});

test("an adopted run has its model socket and token again, and both end with it", async () => {
  home.run("hang");
  await home.until("assistant.message.delta");
  await home.restart();
  home.provider.harness().emit("tool.output.delta", {});
  await home.until("tool.output.delta");
  expect([...home.model.granted]).toEqual(["run-1"]);
  expect(home.model.sockets).toHaveLength(1);
  home.executor.cancel("run-1");
  await home.end();
  expect(home.model.granted.size).toBe(0);
});

test("a run whose sandbox is gone after the restart fails as sandbox_lost", async () => {
  home.run("hang");
  await home.until("assistant.message.delta");
  await home.executor.close();
  const [handle = ""] = home.provider.sandboxes.keys();
  await home.provider.remove(handle);
  await home.restart();
  expect((await home.end()).at(-1)?.payload).toMatchObject({
    code: "sandbox_lost",
    leg: "sandbox",
  });
});

test("a run whose provider is gone after the restart fails, and is given to no other", async () => {
  home.run("hang");
  await home.until("assistant.message.delta");
  await home.restart({ providers: new Map() });
  expect((await home.end()).at(-1)?.payload).toMatchObject({ code: "sandbox_lost", leg: "daemon" });
});

test("a run whose dispatch can't be read after the restart fails, and keeps no other from going on", async () => {
  home.run("hang", { runId: "run-0" });
  home.run("hang");
  await home.until("assistant.message.delta", "run-0");
  await home.until("assistant.message.delta");
  const readable = home.executor.active().find(({ runId }) => runId === "run-1");
  const harness = home.provider.harness(readable?.handle);
  await home.reopen((path) => {
    const db = openDb(path);
    db.exec("UPDATE runs SET body = json_set(body, '$.harness', 5) WHERE run_id = 'run-0'");
    db.close();
    return openJournal({ path });
  });
  home.executor.resumeAll();
  harness.emit("run.completed", { output: "all of it" });
  expect((await home.end()).at(-1)?.type).toBe("run.completed");
  expect(home.journal.state("run-0")?.status).toBe("failed");
});

test("a run that was cut off while its sandbox was made is made again, started once", async () => {
  home.provider.gate = deferred().promise;
  home.run("replay:simple");
  await home.until("sandbox.provisioning");
  await home.executor.close();
  home.provider.gate = Promise.resolve();
  await home.restart();
  const types = typesOf(await home.end());
  expect(types.filter((type) => type === "run.started")).toHaveLength(1);
  expect(types.at(-1)).toBe("run.completed");
});

/** A daemon that ends between harnessd's answer and its note of it. */
async function endBeforeTheNote(runId = "run-1"): Promise<void> {
  await home.reopen((path) => {
    const journal = openJournal({ path });
    return {
      ...journal,
      setProgress: (id, attempt, progress) => {
        if (id !== runId || progress.harnessRunId === undefined) {
          journal.setProgress(id, attempt, progress);
        }
      },
    };
  });
  home.run("hang", { runId });
  await home.until("assistant.message.delta", runId);
  expect(home.journal.record(runId)).toMatchObject({ phase: "starting" });
  expect(home.journal.record(runId)?.harnessRunId).toBeUndefined();
}

test("a run that was told to its harness just when the daemon ended is found by its name there, started once", async () => {
  await endBeforeTheNote();
  const harness = home.provider.harness();
  harness.emit("tool.output.delta", { content: "more" });
  await home.until("tool.output.delta");
  const before = home.events();
  await home.restart();
  harness.emit("run.completed", { output: "adopted" });
  const events = await home.end();
  expect(events.slice(0, -1)).toEqual(before);
  expect(events.at(-1)).toMatchObject({ type: "run.completed", payload: { output: "adopted" } });
  expect(harness.runs.size).toBe(1);
});

test("a run that was not yet told to its harness when the daemon ended is told once", async () => {
  await endBeforeTheNote();
  await home.executor.close();
  const harness = home.provider.harness();
  harness.runs.clear();
  await home.restart();
  const signal = AbortSignal.timeout(5000);
  while (harness.runs.size === 0) {
    signal.throwIfAborted();
    await Bun.sleep(5);
  }
  expect([...harness.runs.values()][0]?.body["client_run_id"]).toBe("run-1.1");
  harness.emit("run.completed", { output: "" });
  await home.end();
  expect(harness.runs.size).toBe(1);
});

test("of a program that knows no names the only run with this prompt that goes on is taken, else none is started twice", async () => {
  await endBeforeTheNote();
  const harness = home.provider.harness();
  harness.knowsNames = false;
  await home.restart();
  harness.emit("tool.output.delta", {});
  await home.until("tool.output.delta");
  harness.emit("run.completed", { output: "adopted" });
  expect((await home.end()).at(-1)?.payload).toMatchObject({ output: "adopted" });

  home.journal.createRun({ runId: "run-2", attempt: 1, harness: "shell", prompt: "hang" });
  const [handle = ""] = home.provider.sandboxes.keys();
  home.journal.setProgress("run-2", 1, { phase: "starting", handle, provider: "process" });
  await home.restart();
  expect((await home.end("run-2")).at(-1)?.payload).toMatchObject({
    code: "sandbox_lost",
    leg: "daemon",
    processesLeft: 0,
  });
  expect(harness.runs.size).toBe(1);
});

test("an engine that is silent when the daemon starts costs no run: it is waited for (LESSONS 27)", async () => {
  home.run("hang");
  await home.until("assistant.message.delta");
  await home.executor.close();
  home.provider.engineDown = true;
  await home.restart();
  home.provider.harness().emit("run.completed", { output: "patience" });
  expect(home.journal.state("run-1")?.status).toBe("running");
  home.provider.engineDown = false;
  expect((await home.end()).at(-1)?.payload).toMatchObject({ output: "patience" });
});

test("a cancel that was not yet proven is proven after the restart", async () => {
  home.run("stubborn");
  await home.until("assistant.message.delta");
  home.provider.engineDown = true;
  home.executor.cancel("run-1", 1);
  await home.restart();
  expect(home.journal.state("run-1")?.status).toBe("running");
  home.provider.engineDown = false;
  expect((await home.end()).at(-1)).toMatchObject({
    type: "run.cancelled",
    payload: { processesLeft: 0 },
  });
  expect(home.provider.harness().processes).toBe(0);
});

test("after a restart queued runs start in their old order", async () => {
  await home.restart({ limits: { maxRuns: 1 } });
  for (const runId of ["a", "b", "c"]) home.run("hang", { runId });
  await home.until("assistant.message.delta", "a");
  await home.restart({ limits: { maxRuns: 1 } });
  home.executor.cancel("a");
  await home.until("assistant.message.delta", "b");
  expect(home.journal.state("c")?.status).toBe("queued");
  await home.executor.cancelAll();
});

test("a dispatch that comes before the look at the old runs disturbs none of them", async () => {
  home.run("stubborn");
  await home.until("assistant.message.delta");
  await home.executor.close();
  home.journal.close();
  await home.reopen((path) => openJournal({ path }));
  home.run("replay:simple", { attempt: 2 });
  home.executor.resumeAll();
  expect((await home.end("run-1", 1)).at(-1)).toMatchObject({
    type: "run.cancelled",
    payload: { processesLeft: 0, reason: "superseded" },
  });
  const second = await home.end("run-1", 2);
  expect(typesOf(second).filter((type) => type === "run.started")).toHaveLength(1);
  expect(second.at(-1)?.type).toBe("run.completed");
});

test("a harnessd that forgot the run fails it, and it is not started again", async () => {
  home.run("hang");
  await home.until("assistant.message.delta");
  await home.executor.close();
  const harness = home.provider.harness();
  harness.runs.clear();
  await home.restart();
  expect((await home.end()).at(-1)?.payload).toMatchObject({
    code: "harness_failed",
    leg: "harness",
  });
  expect(harness.runs.size).toBe(0);
});
