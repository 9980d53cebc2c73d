import { test } from "bun:test";
import type { FakeDaemon } from "../support/hub-daemon.ts";
import { HubFixture, until } from "../support/hub-fixture.ts";

test("what was stored is acknowledged also when the run says nothing more: a full journal waits for that", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  for (const last of [1, 3, 6]) {
    emitLines(daemon, runId, last - daemon.run(runId).lines.length);
    await until(async () => (await fixture.run(token, runId))["lastSeq"] === last);
  }
  await until(() => daemon.run(runId).acked === 6);
});

test("what was stored when the ack was lost is acknowledged again, before the run says more", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  daemon.failAcks = 1;
  emitLines(daemon, runId, 5);
  await until(() => daemon.failAcks <= 0);
  await until(() => daemon.run(runId).acked === 5);
});

test("what was stored when the tunnel was cut is acknowledged by the next one, before the run says more", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  daemon.failAcks = Number.POSITIVE_INFINITY;
  emitLines(daemon, runId, 5);
  await until(async () => (await fixture.run(token, runId))["lastSeq"] === 5);
  await daemon.cut();
  await fixture.reachable(token, daemon.linkId, false);
  daemon.failAcks = 0;
  await daemon.dial();
  await until(() => daemon.run(runId).acked === 5);
});

function emitLines(daemon: FakeDaemon, runId: string, count: number): void {
  for (let i = 0; i < count; i += 1) {
    const content = `line ${daemon.run(runId).lines.length + 1}\n`;
    daemon.emit(runId, "tool.output.delta", { callId: "c", stream: "stdout", content });
  }
}
