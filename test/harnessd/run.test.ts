import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Adapter } from "../../src/harnessd/adapters/adapter.ts";
import { startChild } from "../../src/harnessd/child.ts";
import { EventLog, type HarnessEvent } from "../../src/harnessd/event-log.ts";
import { startRun } from "../../src/harnessd/run.ts";

/** A run of an adapter that behaves badly; gives back its events. */
async function runWith(
  run: Adapter["run"],
  onEvent: (type: string, cancel: () => void) => void = () => undefined,
): Promise<HarnessEvent[]> {
  const folder = await mkdtemp(join(tmpdir(), "run-"));
  const events: HarnessEvent[] = [];
  let active: ReturnType<typeof startRun> | undefined;
  const log = await EventLog.open({
    folder,
    runId: "run_1",
    maxBytes: 1024 * 1024,
    now: () => new Date(),
    onEvent: (event) => {
      events.push(event);
      onEvent(event.type, () => active?.cancel());
    },
  });
  try {
    active = startRun({
      runId: "run_1",
      request: { prompt: "p", harness: "shell" },
      adapter: {
        name: "shell",
        availability: () => Promise.resolve({ name: "shell", available: true }),
        run,
      },
      log,
      workspace: folder,
      folder,
      baseEnv: { PATH: process.env["PATH"] ?? "" },
      modelBaseUrl: () => Promise.resolve(""),
      ownsSandbox: () => false,
    });
    await active.ended;
    return events;
  } finally {
    await log[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  }
}

test("a run whose adapter never hears of its program's end is ended by a cancel all the same", async () => {
  const events = await runWith(
    async (context) => {
      const { env, workspace: cwd } = context;
      const child = await startChild({ command: "sleep", args: ["60"], cwd, env });
      context.started(child.pid);
      context.emit("tool.call.started", {});
      return await new Promise(() => undefined);
    },
    (type, cancel) => {
      if (type === "tool.call.started") cancel();
    },
  );
  expect(events.at(-1)).toMatchObject({ type: "run.cancelled", payload: { processesLeft: 0 } });
});

test("an adapter that throws something unforeseen fails its run, and its run alone", async () => {
  const events = await runWith(() => Promise.reject(new TypeError("no such thing")));
  expect(events.map((event) => event.type)).toEqual(["run.started", "run.failed"]);
  expect(events[1]?.payload).toMatchObject({ code: "harness_failed", detail: "no such thing" });
});

test("what an adapter says behind the end is not in the log", async () => {
  let late: (() => void) | undefined;
  const events = await runWith(
    (context) => {
      late = () => context.emit("usage", {});
      return Promise.resolve({ output: "" });
    },
    (type) => {
      if (type === "run.completed") late?.();
    },
  );
  expect(events.map((event) => event.type)).toEqual(["run.started", "run.completed"]);
});
