import { afterEach, beforeEach, expect, test } from "bun:test";
import { MemoryProvider } from "../support/memory-provider.ts";
import { ExecutorHome, typesOf } from "./executor-home.ts";

let home: ExecutorHome;

beforeEach(() => {
  home = new ExecutorHome(new MemoryProvider(), { limits: { maxRuns: 1 } });
});
afterEach(() => home[Symbol.asyncDispose]());

test("a drain waits for the run that works, and begins none that waits", async () => {
  home.run("hang", { runId: "works" });
  await home.until("assistant.message.delta", "works");
  home.run("replay:simple", { runId: "waits" });
  const left = home.executor.drain(10_000);
  expect(home.executor.active().map(({ runId, begun }) => [runId, begun])).toEqual([
    ["works", true],
    ["waits", false],
  ]);
  home.provider.harness().emit("run.completed", { output: "done in time" });
  expect(await left).toBe(1);
  expect(home.journal.state("works")?.status).toBe("completed");
  expect(typesOf(home.events("waits"))).toEqual(["run.queued"]);
  // The next daemon takes it up.
  await home.restart();
  expect((await home.end("waits")).at(-1)?.type).toBe("run.completed");
});

test("a run that outlives the grace goes on without a daemon, and is adopted", async () => {
  home.run("hang");
  await home.until("assistant.message.delta");
  expect(await home.executor.drain(20)).toBe(1);
  await home.executor.close();
  expect(home.provider.harness().processes).toBe(1);
  await home.restart();
  home.provider.harness().emit("run.completed", { output: "outlived" });
  expect((await home.end()).at(-1)?.payload).toMatchObject({ output: "outlived" });
});

test("runs in a sandbox that is to go are ended first, each with its end (LESSONS 39)", async () => {
  await home.restart({ limits: { maxRuns: 4 } });
  home.run("hang", { runId: "a", thread: "t" });
  await home.until("assistant.message.delta", "a");
  home.run("hang", { runId: "b", thread: "t" });
  home.run("hang", { runId: "c", thread: "other" });
  const [handle = ""] = home.executor.active().map((run) => run.handle);
  await home.executor.endRunsIn(handle, AbortSignal.timeout(5000));
  for (const runId of ["a", "b"]) {
    expect(home.events(runId).at(-1)).toMatchObject({
      type: "run.cancelled",
      payload: { processesLeft: 0 },
    });
  }
  expect(home.executor.active().map((run) => run.runId)).toEqual(["c"]);
});
