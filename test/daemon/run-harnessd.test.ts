import { afterEach, beforeEach, expect, test } from "bun:test";
import { type Journal, openJournal } from "../../src/daemon/journal.ts";
import type { RunEvent } from "../../src/protocol/run-events.ts";
import { ChildProvider } from "../support/child-provider.ts";
import { ExecutorHome } from "./executor-home.ts";

let home: ExecutorHome<ChildProvider>;

beforeEach(() => {
  home = new ExecutorHome(new ChildProvider());
});
afterEach(() => home[Symbol.asyncDispose]());

function said(events: readonly RunEvent[], stream: string): string {
  return events
    .filter(({ type, payload }) => type === "tool.output.delta" && payload["stream"] === stream)
    .map(({ payload }) => payload["content"])
    .join("");
}

/** Waits until the run has written this to its stdout. */
async function untilSaid(text: string): Promise<void> {
  const signal = AbortSignal.timeout(10_000);
  for (;;) {
    const events = home.events();
    if (said(events, "stdout").includes(text)) return;
    await home.journal.waitFor("run-1", 1, events.length, signal);
  }
}

test("a shell run on the real harnessd: output, files, environment, exit code", async () => {
  home.run("echo out $COLOUR; echo err >&2; echo kept > file; exit 3", {
    thread: "t",
    sandbox: { env: { COLOUR: "red" } },
  });
  const events = await home.end();
  expect([said(events, "stdout"), said(events, "stderr")]).toEqual(["out red\n", "err\n"]);
  expect(events.at(-1)).toMatchObject({
    type: "run.failed",
    payload: {
      code: "harness_failed",
      leg: "harness",
      exitCode: 3,
      receipt: { processesLeft: 0, confined: false },
    },
  });
  home.run("cat file", { runId: "run-2", thread: "t" });
  const second = await home.end("run-2");
  expect(said(second, "stdout")).toBe("kept\n");
  expect((await home.provider.list()).length).toBe(1);
});

test("a cancel ends what ignores signals and what left its session, in two seconds", async () => {
  home.run(
    "trap '' TERM INT; setsid sh -c 'trap \"\" TERM; echo away; sleep 300 & wait; sleep 300' & echo here; sleep 300; sleep 300",
  );
  await untilSaid("here");
  await untilSaid("away");
  expect(home.provider.pids().length).toBeGreaterThanOrEqual(3);
  const since = performance.now();
  home.executor.cancel("run-1", 1);
  expect((await home.end()).at(-1)).toMatchObject({
    type: "run.cancelled",
    payload: { processesLeft: 0 },
  });
  expect(performance.now() - since).toBeLessThan(2000);
  expect(home.provider.pids()).toEqual([]);
  // The sandbox is good for another run.
  home.run("echo again", { runId: "run-2" });
  expect((await home.end("run-2")).at(-1)?.type).toBe("run.completed");
});

test("a run goes on while the daemon restarts, and its output is whole", async () => {
  home.run("i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.02; done");
  await untilSaid("line 3\n");
  await home.restart();
  await untilSaid("line 12\n");
  await home.restart();
  const events = await home.end();
  expect(said(events, "stdout")).toBe(
    Array.from({ length: 40 }, (_, index) => `line ${index}\n`).join(""),
  );
  expect(events.at(-1)?.payload).toMatchObject({ exitCode: 0 });
});

test("a daemon that ends before it notes harnessd's answer finds its run again, and the command ran once", async () => {
  await home.reopen((path) => {
    const journal = openJournal({ path });
    const forget: Journal["setProgress"] = (runId, attempt, { harnessRunId, ...rest }) =>
      harnessRunId === undefined ? journal.setProgress(runId, attempt, rest) : undefined;
    return { ...journal, setProgress: forget };
  });
  home.run("echo started >> count; echo up; sleep 1; cat count");
  await untilSaid("up");
  expect(home.journal.record("run-1")).toMatchObject({ phase: "starting" });
  await home.restart();
  const events = await home.end();
  expect(said(events, "stdout")).toBe("up\nstarted\n");
  expect(events.at(-1)?.payload).toMatchObject({ exitCode: 0 });
});

test("a harnessd that is killed under its run is sandbox_lost, and nothing is run again", async () => {
  home.run("echo once; sleep 300");
  await untilSaid("once");
  await home.provider.get().harnessd.kill("SIGKILL");
  expect((await home.end()).at(-1)?.payload).toMatchObject({
    code: "sandbox_lost",
    leg: "sandbox",
  });
  expect(said(home.events(), "stdout")).toBe("once\n");
});

test("a megabyte of output arrives in order, byte for byte", async () => {
  home.run("seq 1 150000");
  const events = await home.end();
  const expected = `${Array.from({ length: 150_000 }, (_, index) => index + 1).join("\n")}\n`;
  expect(said(events, "stdout") === expected).toBe(true);
});
