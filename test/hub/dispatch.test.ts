import { expect, test } from "bun:test";
import { HubFixture } from "../support/hub-fixture.ts";

test("a run goes out signed through the tunnel, and its events come back numbered and acknowledged", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token, { prompt: "echo hi", thread: "t1" });
  expect(daemon.dispatched).toMatchObject([
    { runId, attempt: 1, user: "ada", thread: "t1", prompt: "echo hi" },
  ]);

  daemon.emit(runId, "run.started", { user: "ada" });
  daemon.emit(runId, "tool.output.delta", { callId: "c", stream: "stdout", content: "hi ✓\n" });
  daemon.emit(runId, "run.completed", {
    output: "hi",
    exitCode: 0,
    receipt: { provider: "docker" },
  });

  const events = await fixture.events(token, runId);
  expect(events.map(({ seq, type }) => [seq, type])).toEqual([
    [1, "run.started"],
    [2, "tool.output.delta"],
    [3, "run.completed"],
  ]);
  const run = await fixture.run(token, runId);
  expect(run).toMatchObject({ status: "completed", lastSeq: 3, receipt: { provider: "docker" } });
  expect(daemon.refused).toEqual([]);
});
