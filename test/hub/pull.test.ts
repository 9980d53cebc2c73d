import { expect, test } from "bun:test";
import type { RunEvent } from "../../src/protocol/run-events.ts";
import type { FakeDaemon } from "../support/hub-daemon.ts";
import { HubFixture, until } from "../support/hub-fixture.ts";

test("a stream that is cut again and again, and sends old events twice, gives each event once", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  daemon.cuts.push(1, 3, 0, 7, 2);
  daemon.replayFrom = 0;
  const runId = await fixture.dispatch(token);
  emitLines(daemon, runId, 20);
  daemon.emit(runId, "run.completed", { output: "" });
  expectWhole(await fixture.events(token, runId), 21);
  await until(() => daemon.run(runId).acked === 21);
});

test("a tunnel cut in mid-run loses and doubles nothing", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  const events = fixture.events(token, runId);
  for (let round = 0; round < 3; round += 1) {
    emitLines(daemon, runId, 5);
    const last = daemon.run(runId).lines.length;
    await until(async () => (await fixture.run(token, runId))["lastSeq"] === last);
    await daemon.cut();
    await fixture.reachable(token, daemon.linkId, false);
    emitLines(daemon, runId, 5);
    await daemon.dial();
  }
  daemon.emit(runId, "run.completed", { output: "" });
  expectWhole(await events, 31);
});

test("a hub that restarts in mid-run goes on where its store ends", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  emitLines(daemon, runId, 10);
  await until(async () => (await fixture.run(token, runId))["lastSeq"] === 10);
  await fixture.restart();
  emitLines(daemon, runId, 10);
  daemon.emit(runId, "run.completed", { output: "done" });
  // The old secret still stands: a restart is no new epoch.
  expect((await daemon.beat()).status).toBe(200);
  await daemon.dial();
  expectWhole(await fixture.events(token, runId), 21);
  expect(await fixture.run(token, runId)).toMatchObject({
    status: "completed",
    result: { output: "done" },
  });
  expect(daemon.dispatched).toHaveLength(1);
});

test("a daemon that takes over with a new epoch has its journal pulled to the end", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  emitLines(daemon, runId, 3);
  await until(async () => (await fixture.run(token, runId))["lastSeq"] === 3);
  const next = daemon.twin();
  next.emit(runId, "run.completed", { output: "" });
  await next.register();
  await next.beat();
  const tunnel = await next.dial();
  expectWhole(await fixture.events(token, runId), 4);
  tunnel.close();
});

test("many events are stored in order and acknowledged as they come", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  emitLines(daemon, runId, 3000);
  await until(() => daemon.run(runId).acked > 0);
  daemon.emit(runId, "run.completed", { output: "" });
  expectWhole(await fixture.events(token, runId), 3001);
  await until(() => daemon.run(runId).acked === 3001);
});

test("another chain truncates nothing: what was not agreed is dropped and pulled again", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  daemon.chainMismatches = 2;
  const runId = await fixture.dispatch(token);
  emitLines(daemon, runId, 5);
  daemon.emit(runId, "run.completed", { output: "" });
  await until(() => daemon.run(runId).acked === 6);
  expect(daemon.chainMismatches).toBe(0);
  expectWhole(await fixture.events(token, runId), 6);
});

test("a line that was changed on the way is found by the chain and replaced by the true one", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  let forged = 0;
  daemon.forge = (data) => {
    if (!data.includes("line 2\\n") || forged > 0) return data;
    forged += 1;
    return data.replace("line 2", "rm -rf");
  };
  const runId = await fixture.dispatch(token);
  emitLines(daemon, runId, 4);
  daemon.emit(runId, "run.completed", { output: "" });
  await until(() => daemon.run(runId).acked === 5);
  expect(forged).toBe(1);
  expectWhole(await fixture.events(token, runId), 5);
});

test("an ack whose answer was lost costs nothing when the next one is disputed", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  daemon.loseAckAnswers = 1;
  emitLines(daemon, runId, 5);
  await until(() => daemon.run(runId).truncated > 0);
  daemon.chainMismatches = 1;
  emitLines(daemon, runId, 5);
  daemon.emit(runId, "run.completed", { output: "" });
  await until(() => daemon.run(runId).acked === 11);
  expectWhole(await fixture.events(token, runId), 11);
});

test("what was truncated before the hub had it is a gap in the log, never silence", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  daemon.emit("run_old", "run.started", { thread: "t", harness: "shell" });
  emitLines(daemon, "run_old", 4);
  daemon.emit("run_old", "run.completed", { output: "late" });
  daemon.run("run_old").truncated = 3;
  await daemon.beat({ runs: [{ runId: "run_old", attempt: 1, lastSeq: 6, status: "completed" }] });
  const events = await fixture.events(token, "run_old");
  expect(events.map(({ type }) => type)).toEqual([
    "log.gap",
    "tool.output.delta",
    "tool.output.delta",
    "run.completed",
  ]);
  expect(events[0]?.payload).toEqual({ attempt: 1, fromSeq: 1, toSeq: 3 });
  expect(events.map(({ seq }) => seq)).toEqual([1, 2, 3, 4]);
  // The daemon told its chain, so what came behind the gap could be acknowledged.
  await until(() => daemon.run("run_old").acked === 6);
});

test("an ack behind a gap that fails once leaves nothing unacknowledged", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  emitLines(daemon, "run_old", 4);
  daemon.emit("run_old", "run.completed", { output: "late" });
  daemon.run("run_old").truncated = 3;
  daemon.failAcks = 1;
  await daemon.beat({ runs: [{ runId: "run_old", attempt: 1, lastSeq: 5, status: "completed" }] });
  const events = await fixture.events(token, "run_old");
  expect(events.map(({ type }) => type)).toEqual(["log.gap", "tool.output.delta", "run.completed"]);
  await until(() => daemon.run("run_old").acked === 5);
});

test("a run that another journal tells otherwise from its start fails, instead of being pulled for ever", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  emitLines(daemon, "run_two", 2);
  await daemon.beat({ runs: [{ runId: "run_two", attempt: 1, lastSeq: 2, status: "running" }] });
  await until(() => daemon.run("run_two").acked === 2);
  await daemon.cut();
  // A copy of this laptop has begun the same run anew.
  daemon.runs.delete("run_two");
  for (const type of ["run.started", "tool.output.delta", "run.completed"]) {
    daemon.emit("run_two", type, { output: "another" });
  }
  await daemon.dial();
  await until(async () => (await fixture.run(token, "run_two"))["status"] === "failed");
  const events = await fixture.events(token, "run_two");
  expect(events.at(-1)).toMatchObject({ type: "run.failed", payload: { code: "chain_mismatch" } });
  expect(events.map(({ seq }) => seq)).toEqual([1, 2, 3]);
});

test("a run whose whole log is gone ends as the daemon's ledger says", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  for (const [runId, type] of [
    ["run_done", "run.completed"],
    ["run_bad", "run.failed"],
    ["run_off", "run.cancelled"],
  ] as const) {
    daemon.emit(runId, type, { output: "", code: "harness_failed" });
    daemon.run(runId).truncated = 1;
    await daemon.beat({ runs: [{ runId, attempt: 1, lastSeq: 1, status: "running" }] });
    expect((await fixture.events(token, runId)).map((event) => event.type)).toEqual([
      "log.gap",
      type,
    ]);
  }
});

test("a run that the hub does not know is pulled from 1 and filed under the link's user", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  daemon.emit("run_local", "run.started", {
    user: "mallory",
    thread: "t",
    harness: "shell",
    promptSha256: "ab",
  });
  daemon.emit("run_local", "run.completed", { output: "" });
  await daemon.beat({
    runs: [{ runId: "run_local", attempt: 1, lastSeq: 2, status: "completed" }],
  });
  expectWhole(await fixture.events(token, "run_local"), 2);
  expect(await fixture.run(token, "run_local")).toMatchObject({
    status: "completed",
    harness: "shell",
    thread: "t",
    linkId: daemon.linkId,
  });
});

test("a link can't name another user's run its own", async () => {
  await using fixture = await HubFixture.start();
  const ada = await fixture.token("ada");
  const daemon = await fixture.linked("ada");
  const runId = await fixture.dispatch(ada);
  const thief = await fixture.linked("bob");
  thief.emit(runId, "run.completed", { output: "forged" });
  await thief.beat({ runs: [{ runId, attempt: 1, lastSeq: 1, status: "completed" }] });
  daemon.emit(runId, "run.completed", { output: "true" });
  expect(await fixture.events(ada, runId)).toMatchObject([{ payload: { output: "true" } }]);
  expect(thief.acks).toEqual([]);
});

test("a run that the daemon's ledger lost fails, and says where", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  await daemon.cut();
  await fixture.reachable(token, daemon.linkId, false);
  daemon.runs.delete(runId);
  await daemon.dial();
  const [event] = await fixture.events(token, runId);
  expect(event).toMatchObject({
    type: "run.failed",
    payload: { code: "run_not_found", leg: "daemon" },
  });
});

test("an answer that is a page, not a stream, is no empty run (LESSONS 20)", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  await daemon.cut();
  await fixture.reachable(token, daemon.linkId, false);
  daemon.page = 2;
  await daemon.dial();
  await until(() => daemon.page === 0);
  expect(await fixture.run(token, runId)).toMatchObject({ status: "queued" });
  daemon.emit(runId, "run.completed", { output: "" });
  expectWhole(await fixture.events(token, runId), 1);
});

function emitLines(daemon: FakeDaemon, runId: string, count: number): void {
  for (let i = 0; i < count; i += 1) {
    const content = `line ${daemon.run(runId).lines.length + 1}\n`;
    daemon.emit(runId, "tool.output.delta", { callId: "c", stream: "stdout", content });
  }
}

/** Contiguous from 1, each line once, in order, with its end. */
function expectWhole(events: readonly RunEvent[], count: number): void {
  expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length: count }, (_, i) => i + 1));
  for (const { seq, type, payload } of events) {
    if (type === "tool.output.delta") expect(payload["content"]).toBe(`line ${seq}\n`);
  }
  expect(events.at(-1)?.type).toStartWith("run.");
}
