import { expect, test } from "bun:test";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HubFixture, until } from "../support/hub-fixture.ts";

test("a hub restored from a backup repeats no key, even if its clock stands, takes its links back, and says what it lost", async () => {
  await using cleanup = new AsyncDisposableStack();
  const backup = await mkdtemp(join(tmpdir(), "deco-backup-"));
  cleanup.defer(() => rm(backup, { recursive: true }));
  // The hub's clock stands: the epoch comes twice, and is not what keys hang on.
  const now = Date.now();
  await using fixture = await HubFixture.start({ now: () => now });
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const known = await fixture.dispatch(token);
  daemon.emit(known, "run.started", { harness: "shell" });
  await until(() => daemon.run(known).acked === 1);
  await fixture.hub.close();
  await cp(fixture.dataDir, backup, { recursive: true });
  await fixture.restart();

  const given = [daemon.registered];
  given.push(await daemon.register(token));
  await daemon.dial();
  await fixture.reachable(token, daemon.linkId);
  const unknown = await fixture.dispatch(token);
  for (const runId of [known, unknown]) {
    for (let i = 0; i < 3; i += 1) daemon.emit(runId, "usage", { i });
    await until(() => daemon.run(runId).acked === daemon.run(runId).lines.length);
    daemon.run(runId).truncated = daemon.run(runId).acked;
    daemon.emit(runId, "run.completed", { output: "done" });
    await until(() => daemon.run(runId).acked === daemon.run(runId).lines.length);
  }
  await fixture.hub.close();
  await rm(fixture.dataDir, { recursive: true });
  await cp(backup, fixture.dataDir, { recursive: true });
  await fixture.restart();

  expect(await daemon.beat()).toMatchObject({ status: 401, body: { code: "unknown_link" } });
  given.push(await daemon.register());
  expect(new Set(given.map((one) => one?.signingKey)).size).toBe(3);
  expect(new Set(given.map((one) => one?.linkSecret)).size).toBe(3);
  const runs = [{ runId: unknown, attempt: 1, lastSeq: 4, status: "completed" }];
  expect((await daemon.beat({ runs })).status).toBe(200);
  await daemon.dial();
  const types = async (runId: string) =>
    (await fixture.events(token, runId)).map(({ type }) => type);
  expect(await types(known)).toEqual(["run.started", "log.gap", "run.completed"]);
  expect(await types(unknown)).toEqual(["log.gap", "run.completed"]);
});
