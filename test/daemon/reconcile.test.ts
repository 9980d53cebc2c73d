import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { idleTimesFile } from "../../src/daemon/idle-times.ts";
import { silentLog } from "../../src/daemon/log.ts";
import {
  createReconcile,
  type Reconcile,
  type ReconcileOptions,
} from "../../src/daemon/reconcile.ts";
import { MemoryProvider } from "../support/memory-provider.ts";
import { ExecutorHome } from "./executor-home.ts";

const RUN = "r-0123456789abcdef";
const THREAD = "t-0123456789abcdef";

let home: ExecutorHome;
let clock: number;
let reconcile: Reconcile;
const signal = new AbortController().signal;
const minutes = (count: number) => {
  clock += count * 60_000;
};

beforeEach(() => {
  clock = Date.now();
  home = new ExecutorHome(new MemoryProvider());
  reconcile = reconcileOf(home);
});
afterEach(() => home[Symbol.asyncDispose]());

function reconcileOf(
  { provider, executor }: ExecutorHome,
  keep?: number,
  more: Partial<ReconcileOptions> = {},
): Reconcile {
  return createReconcile({
    ...(keep === undefined ? {} : { keep }),
    providers: () => [provider],
    busy: (handle) => executor.isBusy(handle),
    remove: (from, handle, within) => executor.sandboxes.remove(from, handle, within),
    failLost: (within) => executor.failLost(within),
    log: silentLog,
    now: () => clock,
    ...more,
  });
}

async function make(handle: string, status: "running" | "stopped" = "running"): Promise<void> {
  await home.provider.ensure(handle, {}, { instanceId: "test", onStage: () => {} }, signal);
  const sandbox = home.provider.sandboxes.get(handle);
  if (sandbox) sandbox.info = { ...sandbox.info, status };
}

const handles = () => [...home.provider.sandboxes.keys()];

test("a run's own sandbox that nobody uses goes after 15 minutes, a thread's never", async () => {
  await make(RUN);
  await make(THREAD);
  await reconcile.once(signal);
  minutes(14);
  await reconcile.once(signal);
  expect(handles()).toEqual([RUN, THREAD]);
  minutes(1);
  await reconcile.once(signal);
  expect(handles()).toEqual([THREAD]);
  expect(reconcile.counts()).toMatchObject({ running: 2, removed: 1, lost: 0 });
  minutes(1000);
  await reconcile.once(signal);
  expect(reconcile.counts()).toMatchObject({ running: 1, stopped: 0, unknown: 0, removed: 1 });
});

test("idle minutes are counted over a restart of the daemon, and are a setting", async () => {
  const dir = await mkdtemp(join(tmpdir(), "deco-idle-"));
  try {
    const times = idleTimesFile(join(dir, "idle.json"), silentLog);
    const daemon = () => reconcileOf(home, undefined, { times, idleMinutes: 30 });
    await make(RUN);
    await daemon().once(signal);
    minutes(29);
    await daemon().once(signal);
    expect(handles()).toEqual([RUN]);
    minutes(1);
    await daemon().once(signal);
    expect(handles()).toEqual([]);
  } finally {
    await rm(dir, { recursive: true });
  }
});

test("idle times of a clock that was set back, or of a broken file, keep nothing for ever", async () => {
  const dir = await mkdtemp(join(tmpdir(), "deco-idle-"));
  const path = join(dir, "idle.json");
  try {
    const times = idleTimesFile(path, silentLog);
    await make(RUN);
    await reconcileOf(home, undefined, { times }).once(signal);
    minutes(-1000);
    await reconcileOf(home, undefined, { times }).once(signal);
    await writeFile(path, "{broken", { mode: 0o600 });
    const last = reconcileOf(home, undefined, { times });
    await last.once(signal);
    expect(handles()).toEqual([RUN]);
    minutes(15);
    await last.once(signal);
    expect(handles()).toEqual([]);
  } finally {
    await rm(dir, { recursive: true });
  }
});

test("what a crash left half made goes after a minute, never at once: somebody may be making it", async () => {
  await make(RUN, "stopped");
  await make(THREAD, "stopped");
  await reconcile.once(signal);
  expect(handles()).toEqual([RUN, THREAD]);
  minutes(1);
  await reconcile.once(signal);
  expect(handles()).toEqual([THREAD]);
});

test("a sandbox in which a run works is kept, however long it takes", async () => {
  home.run("hang");
  await home.until("assistant.message.delta");
  for (let round = 0; round < 5; round++) {
    await reconcile.once(signal);
    minutes(20);
  }
  expect(handles()).toHaveLength(1);
  home.provider.harness().emit("run.completed", { output: "" });
  await home.end();
  while (home.executor.active().length > 0) await Bun.sleep(5);
  await reconcile.once(signal);
  minutes(16);
  await reconcile.once(signal);
  expect(handles()).toEqual([]);
});

test("an engine that does not answer destroys nothing (LESSONS 27)", async () => {
  await make(RUN);
  const [sandbox] = home.provider.sandboxes.values();
  if (sandbox) sandbox.info = { ...sandbox.info, status: "unknown" };
  await reconcile.once(signal);
  minutes(1000);
  await reconcile.once(signal);
  expect(handles()).toEqual([RUN]);
  expect(reconcile.counts()).toMatchObject({ unknown: 1, removed: 0 });
  home.provider.list = () => Promise.reject(new Error("no engine"));
  await reconcile.once(signal);
  expect(reconcile.counts()).toMatchObject({ unknown: 1, running: 0, removed: 0 });
});

test("a sandbox that is gone under its run ends the run, by two looks, even while its stream stands", async () => {
  home.run("hang");
  await home.until("assistant.message.delta");
  const [[handle, sandbox] = []] = home.provider.sandboxes;
  if (handle === undefined || sandbox === undefined) throw new Error("no sandbox");
  home.provider.sandboxes.delete(handle);
  await reconcile.once(signal);
  expect(home.journal.state("run-1")?.status).toBe("running");
  await reconcile.once(signal);
  expect((await home.end()).at(-1)).toMatchObject({
    type: "run.failed",
    payload: { code: "sandbox_lost", leg: "sandbox", fix: "Start the run again." },
  });
  expect(reconcile.counts()).toMatchObject({ lost: 1 });
  await sandbox.harness[Symbol.asyncDispose]();
});

test("one look that finds nothing, or an engine that is silent, ends no run", async () => {
  home.run("hang");
  await home.until("assistant.message.delta");
  const [[handle, sandbox] = []] = home.provider.sandboxes;
  if (handle === undefined || sandbox === undefined) throw new Error("no sandbox");
  home.provider.sandboxes.delete(handle);
  await reconcile.once(signal);
  home.provider.sandboxes.set(handle, sandbox);
  await reconcile.once(signal);
  home.provider.engineDown = true;
  for (let round = 0; round < 3; round++) await reconcile.once(signal);
  home.provider.engineDown = false;
  home.provider.harness().emit("run.completed", { output: "there all along" });
  expect((await home.end()).at(-1)?.type).toBe("run.completed");
});

test("twenty runs without a thread leave the newest four sandboxes; a thread's is not counted (LESSONS 43)", async () => {
  await home.restart({ onLeft: (_handle, within) => void reconcile.trim(within) });
  reconcile = reconcileOf(home);
  await make(THREAD);
  for (let round = 1; round <= 20; round++) {
    minutes(0.1);
    const runId = `run-${round}`;
    home.run("work", { runId });
    await home.until("assistant.message.delta", runId);
    const newest = handles().at(-1);
    home.provider.harness(newest).emit("run.completed", { output: "" });
    await home.end(runId);
    while (home.executor.active().length > 0) await Bun.sleep(1);
    await reconcile.trim(signal);
    expect(handles()).toHaveLength(1 + Math.min(round, 4));
    expect(handles().at(-1)).toBe(newest ?? "");
  }
  await reconcile.once(signal);
  expect(reconcile.counts()).toMatchObject({ running: 5, removed: 16 });
});

test("a sandbox in which a run works is neither counted nor removed by the limit, an unknown one never", async () => {
  reconcile = reconcileOf(home, 0);
  home.run("hang");
  await home.until("assistant.message.delta");
  await make(RUN);
  const unknown = "r-fedcba9876543210";
  await make(unknown);
  const sandbox = home.provider.sandboxes.get(unknown);
  if (sandbox) sandbox.info = { ...sandbox.info, status: "unknown" };
  await reconcile.trim(signal);
  expect(handles()).toHaveLength(2);
  expect(handles()).not.toContain(RUN);
  home.provider.list = () => Promise.reject(new Error("no engine"));
  await reconcile.trim(signal);
  expect(handles()).toHaveLength(2);
});
