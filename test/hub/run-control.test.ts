import { expect, test } from "bun:test";
import { deferred } from "../../src/protocol/deferred.ts";
import { call } from "../support/hub-call.ts";
import { HubFixture, until } from "../support/hub-fixture.ts";

test("cancel goes to the daemon at once, and again with each heartbeat until the run ended", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  const cancel = () =>
    call(fixture.url, { method: "POST", path: `/api/runs/${runId}/cancel`, token });
  expect(await cancel()).toMatchObject({ status: 202, body: { runId } });
  await until(() => daemon.cancelled.includes(runId));
  expect((await daemon.beat()).body["cancel"]).toEqual([runId]);
  daemon.emit(runId, "run.cancelled", { processesLeft: 0 });
  await fixture.events(token, runId);
  expect((await daemon.beat()).body["cancel"]).toEqual([]);
  expect(await cancel()).toMatchObject({ status: 202, body: { status: "cancelled" } });
});

test("a cancel for a link that is away survives a restart and comes before the dispatch", async () => {
  await using fixture = await HubFixture.start({ acceptTimeoutMs: 20 });
  const token = await fixture.token();
  const daemon = await fixture.linked();
  daemon.onDispatch = () => new Promise(() => undefined);
  const runId = await fixture.dispatch(token);
  await daemon.cut();
  expect(
    (await call(fixture.url, { method: "POST", path: `/api/runs/${runId}/cancel`, token })).status,
  ).toBe(202);
  await fixture.restart();
  const order: string[] = [];
  daemon.onDispatch = () => {
    order.push(daemon.cancelled.includes(runId) ? "cancelled before" : "dispatched before");
  };
  await daemon.dial();
  await until(() => daemon.dispatched.length === 1);
  expect(order).toEqual(["cancelled before"]);
  daemon.emit(runId, "run.cancelled", { processesLeft: 0 });
  expect(await fixture.events(token, runId)).toMatchObject([{ type: "run.cancelled" }]);
});

test("a cancel that comes while the dispatch is under way reaches the daemon right after it", async () => {
  await using fixture = await HubFixture.start({ acceptTimeoutMs: 20 });
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const slow = deferred();
  daemon.onDispatch = () => slow.promise;
  const runId = await fixture.dispatch(token);
  await call(fixture.url, { method: "POST", path: `/api/runs/${runId}/cancel`, token });
  slow.resolve();
  await until(() => daemon.cancelled.includes(runId));
  expect(daemon.dispatched).toHaveLength(1);
});

test("the runs of a link that is revoked end, and say why", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  await call(fixture.url, { method: "DELETE", path: `/api/links/${daemon.linkId}`, token });
  expect(await fixture.events(token, runId)).toMatchObject([
    { type: "run.failed", payload: { code: "revoked", leg: "hub" } },
  ]);
});

test("input, approve and deny are passed through with the attempt", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  daemon.emit(runId, "run.waiting_for_user", {});
  await until(async () => (await fixture.run(token, runId))["status"] === "waiting");
  const post = (verb: string, body: object) =>
    call(fixture.url, { method: "POST", path: `/api/runs/${runId}/${verb}`, token, body });
  expect((await post("input", { text: "yes" })).status).toBe(202);
  expect((await post("approve", { callId: "c1" })).status).toBe(202);
  expect((await post("deny", { callId: "c1", reason: "no" })).status).toBe(202);
  expect(daemon.answers).toEqual([
    { path: `/v1/runs/${runId}/input`, body: { attempt: 1, text: "yes" } },
    { path: `/v1/runs/${runId}/approve`, body: { attempt: 1, callId: "c1" } },
    { path: `/v1/runs/${runId}/deny`, body: { attempt: 1, callId: "c1", reason: "no" } },
  ]);
  expect(await post("input", { text: "x", more: 1 })).toMatchObject({
    status: 400,
    body: { code: "invalid_request" },
  });
  await daemon.cut();
  await fixture.reachable(token, daemon.linkId, false);
  expect(await post("input", { text: "x" })).toMatchObject({
    status: 409,
    body: { code: "link_offline" },
  });
  await daemon.dial();
  daemon.emit(runId, "run.completed", { output: "" });
  await fixture.events(token, runId);
  expect(await post("input", { text: "x" })).toMatchObject({
    status: 409,
    body: { code: "run_not_waiting" },
  });
});

test("runs are listed newest first, a page at a time, with their prompts cut short", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  await fixture.linked();
  for (const prompt of ["one", "x".repeat(1000)]) await fixture.dispatch(token, { prompt });
  const { body } = await call(fixture.url, { path: "/api/runs?limit=1", token });
  expect(body["runs"]).toMatchObject([{ prompt: "x".repeat(200), status: "queued" }]);
});
