import { expect, test } from "bun:test";
import type { FakeDaemon } from "../support/hub-daemon.ts";
import { HubFixture, until } from "../support/hub-fixture.ts";

const run = (runId: string, status = "completed") => ({ runId, attempt: 1, lastSeq: 2, status });

test("a restored hub learns of a run that was acknowledged to its end behind the backup", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  ended(daemon, "run_lost", "run.completed");
  daemon.run("run_lost").truncated = 2;
  // The daemon's last mark came from the life of this hub that the backup does not know.
  const settled = { journal: "j", after: 7, through: 7, total: 7, runs: [] };
  expect((await daemon.beat({ settled })).body["settled"]).toBe(0);
  const runs = [{ ...run("run_lost"), user: "ada", harness: "shell", thread: "t" }];
  const page = { ...settled, after: 0, runs };
  expect((await daemon.beat({ settled: page })).body["settled"]).toBe(7);
  const events = await fixture.events(token, "run_lost");
  expect(events.map(({ type }) => type)).toEqual(["log.gap", "run.completed"]);
  expect(events[0]?.payload).toMatchObject({ fromSeq: 1, toSeq: 2 });
  const filed = { status: "completed", harness: "shell", thread: "t" };
  expect(await fixture.run(token, "run_lost")).toMatchObject(filed);
  await fixture.restart();
  expect((await daemon.beat({ settled })).body["settled"]).toBe(7);
});

test("a page that does not fit behind what the hub knows changes nothing; another's run is not filed", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const settled = { journal: "j", through: 9, total: 9, runs: [run("run_a")] };
  expect((await daemon.beat({ settled: { ...settled, after: 3 } })).body["settled"]).toBe(0);
  expect(await fixture.run(token, "run_a")).toMatchObject({ code: "run_not_found" });
  const runs = [{ ...run("run_bobs"), user: "bob" }, { runId: "" }];
  const page = { ...settled, after: 0, runs };
  expect((await daemon.beat({ settled: page })).body["settled"]).toBe(9);
  expect(await fixture.run(token, "run_bobs")).toMatchObject({ code: "run_not_found" });
  // An older copy of this journal counts less: it is asked for all it has.
  const older = { journal: "j", after: 4, through: 4, total: 4, runs: [] };
  expect((await daemon.beat({ settled: older })).body["settled"]).toBe(0);
  // What can't be read is left out, and the link stays online.
  const odd = await daemon.beat({ settled: { journal: 5 } });
  expect([odd.status, odd.body["settled"]]).toEqual([200, undefined]);
});

test("what a daemon still holds of a run that has ended here is cancelled and drained, not stored", async () => {
  const said: object[] = [];
  const log = { info: () => undefined, error: () => undefined, warn: (o: object) => said.push(o) };
  await using fixture = await HubFixture.start({ log });
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  await daemon.cut();
  await fixture.reachable(token, daemon.linkId, false);
  // A copy of this home, which never heard of the run, takes its place; then the first one is back.
  const held = daemon.run(runId);
  daemon.runs.delete(runId);
  await daemon.dial();
  const before = await fixture.events(token, runId);
  expect(before.at(-1)).toMatchObject({ payload: { code: "run_not_found" } });
  daemon.runs.set(runId, held);
  for (let i = 0; i < 600; i += 1) daemon.emit(runId, "usage", { i });
  held.truncated = 10;
  await daemon.beat({ runs: [{ ...run(runId, "running"), lastSeq: 600 }] });
  await until(() => daemon.cancelled.includes(runId));
  daemon.emit(runId, "run.cancelled", { processesLeft: 0 });
  await until(() => held.acked === 601);
  await until(() => said.some((line) => "bytes" in line));
  expect(said).toContainEqual(expect.objectContaining({ runId, events: 591 }));
  expect(await fixture.events(token, runId)).toEqual(before);
});

test("a drain that fails is tried again with the next heartbeat", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  ended(daemon, runId, "run.completed");
  await until(() => daemon.run(runId).acked === 2);
  await until(async () => (await fixture.run(token, runId))["status"] === "completed");
  daemon.failAcks = 1;
  const runs = [run(runId)];
  const acks = () => daemon.acks.length;
  const had = acks();
  await until(async () => {
    await daemon.beat({ runs });
    return daemon.failAcks <= 0 && acks() > had;
  });
});

function ended(daemon: FakeDaemon, runId: string, type: string): void {
  daemon.emit(runId, "run.started", { harness: "shell" });
  daemon.emit(runId, type, { output: "" });
}
