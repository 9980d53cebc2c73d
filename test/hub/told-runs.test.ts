import { expect, test } from "bun:test";
import { call } from "../support/hub-call.ts";
import type { FakeDaemon } from "../support/hub-daemon.ts";
import { HubFixture, until } from "../support/hub-fixture.ts";

test("a higher attempt, dispatched on the laptop, is pulled behind the lower one's log, never cancelled", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  daemon.emit(runId, "run.cancelled", { processesLeft: 0 });
  await until(() => daemon.run(runId).acked === 1);
  await until(async () => (await fixture.run(token, runId))["status"] === "cancelled");

  // What was not agreed is dropped: of the second attempt, and nothing of the first.
  daemon.chainMismatches = 1;
  secondAttempt(daemon, runId);
  await daemon.beat({ runs: [{ runId, attempt: 2, lastSeq: 2, status: "running" }] });
  await until(async () => (await fixture.run(token, runId))["status"] === "running");
  daemon.emit(runId, "run.completed", { output: "done" });
  const events = await fixture.events(token, runId);
  const types = ["run.cancelled", "run.started", "usage", "run.completed"];
  expect(events.map(({ type }) => type)).toEqual(types);
  expect(events.map(({ seq }) => seq)).toEqual([1, 2, 3, 4]);
  await until(() => daemon.run(runId).acked === 3);
  expect(daemon.cancelled).toEqual([]);
  const state = { status: "completed", attempt: 2, result: { output: "done" } };
  expect(await fixture.run(token, runId)).toMatchObject(state);
});

function secondAttempt(daemon: FakeDaemon, runId: string): void {
  daemon.runs.delete(runId);
  daemon.run(runId).attempt = 2;
  daemon.emit(runId, "run.started", { harness: "shell" });
  daemon.emit(runId, "usage");
}

test("what is no run id is not filed, and the link stays online", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const odd = ["../../v1/status", "a b", "<script>", "ä", "a\n"];
  const runs = odd.map((runId) => ({ runId, attempt: 1, lastSeq: 1, status: "completed" }));
  const settled = { journal: "j", after: 0, through: 5, total: 5, runs };
  expect((await daemon.beat({ runs, settled })).status).toBe(200);
  const { body } = await call(fixture.url, { path: "/api/runs", token });
  expect(body["runs"]).toEqual([]);
});

test("a run that waits for its user waits at the hub, too: behind a sleep, and until it goes on", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  const statusAt = async (seq: number) => {
    await until(async () => (await fixture.run(token, runId))["lastSeq"] === seq);
    return (await fixture.run(token, runId))["status"];
  };
  daemon.emit(runId, "run.started", { harness: "shell" });
  daemon.emit(runId, "tool.approval_required", { callId: "c" });
  daemon.emit(runId, "run.suspended", { reason: "sleep", at: new Date().toISOString() });
  daemon.emit(runId, "run.resumed", { reason: "sleep", sleptMs: 60_000 });
  expect(await statusAt(4)).toBe("waiting");
  daemon.emit(runId, "tool.call.completed", { callId: "c", output: "" });
  expect(await statusAt(5)).toBe("running");
});
