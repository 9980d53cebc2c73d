import { expect, test } from "bun:test";
import { deferred } from "../../src/protocol/deferred.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import { call } from "../support/hub-call.ts";
import { HubFixture, until } from "../support/hub-fixture.ts";

const RUN = { harness: "shell", prompt: "true" };

test("a run goes out signed through the tunnel, and its events come back numbered and acknowledged", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token, { prompt: "echo hi", thread: "t1" });
  expect(daemon.dispatched).toMatchObject([
    { runId, attempt: 1, user: "ada", thread: "t1", prompt: "echo hi" },
  ]);

  daemon.emit(runId, "run.started", { user: "ada" });
  daemon.emit(runId, "sandbox.ready", { handle: "h", provider: "docker", image: "i", readyMs: 12 });
  daemon.emit(runId, "tool.output.delta", { callId: "c", stream: "stdout", content: "hi ✓\n" });
  daemon.emit(runId, "run.completed", {
    output: "hi",
    exitCode: 0,
    receipt: { provider: "docker" },
  });

  const events = await fixture.events(token, runId);
  expect(events.map(({ seq, type }) => [seq, type])).toEqual([
    [1, "run.started"],
    [2, "sandbox.ready"],
    [3, "tool.output.delta"],
    [4, "run.completed"],
  ]);
  const run = await fixture.run(token, runId);
  expect(run).toMatchObject({
    status: "completed",
    lastSeq: 4,
    harness: "shell",
    target: { linkId: daemon.linkId, handle: "h", provider: "docker", image: "i" },
    receipt: { provider: "docker" },
    result: { output: "hi", exitCode: 0 },
    timings: { sandbox: 12, total: expect.any(Number), accepted: expect.any(Number) },
  });
  await until(() => daemon.run(runId).acked === 4);
  expect(daemon.acks.at(-1)?.chain).toBe(daemon.chainAt(runId, 4));
  expect(daemon.refused).toEqual([]);
});

test("without a link, or with one that is away, draining or without a tunnel, it is link_offline", async () => {
  let now = Date.now();
  await using fixture = await HubFixture.start({ now: () => now });
  const token = await fixture.token();
  const post = (body: object) =>
    call(fixture.url, { method: "POST", path: "/api/runs", token, body });
  const offline = { status: 409, body: { code: "link_offline" } };
  expect(await post(RUN)).toMatchObject(offline);
  const daemon = fixture.daemon();
  await daemon.register(token);
  await daemon.beat();
  expect(await post(RUN)).toMatchObject(offline);
  await daemon.dial();
  await fixture.reachable(token, daemon.linkId);
  await daemon.beat({ state: "draining" });
  expect(await post(RUN)).toMatchObject(offline);
  await daemon.beat();
  now += 31_000;
  expect(await post({ ...RUN, link: daemon.linkId })).toMatchObject(offline);
  expect(await post({ ...RUN, link: "link_of_nobody" })).toMatchObject({
    status: 404,
    body: { code: "link_not_found" },
  });
  expect((await call(fixture.url, { path: "/api/runs", token })).body["runs"]).toEqual([]);
});

test("work for a suspended link is queued: dispatched once when it is back, or cancelled", async () => {
  let now = Date.now();
  await using fixture = await HubFixture.start({ now: () => now });
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const post = (body: object) =>
    call(fixture.url, { method: "POST", path: "/api/runs", token, body });
  await fixture.dispatch(token);
  await daemon.cut();
  now += 31_000;
  const me = await call(fixture.url, { path: "/api/links/me", token });
  expect(me.body["status"]).toBe("suspended");
  const asked = performance.now();
  const queued = await post(RUN);
  expect(queued).toMatchObject({ status: 202, body: { status: "queued", linkId: daemon.linkId } });
  expect(performance.now() - asked).toBeLessThan(2000);
  expect(await post({ ...RUN, harness: "claude-code" })).toMatchObject({
    status: 409,
    body: { code: "capability_missing" },
  });
  const cancelled = String((await post(RUN)).body["runId"]);
  await call(fixture.url, { method: "POST", path: `/api/runs/${cancelled}/cancel`, token });
  await daemon.register(token);
  await daemon.dial();
  await daemon.beat();
  const runId = String(queued.body["runId"]);
  await until(() => daemon.dispatched.some((run) => run.runId === runId));
  daemon.emit(runId, "run.completed", { output: "" });
  expect((await fixture.events(token, runId)).at(-1)?.type).toBe("run.completed");
  expect(daemon.dispatched.filter((run) => run.runId === runId)).toHaveLength(1);
  await until(() => daemon.cancelled.includes(cancelled));
});

test("what no link offers is capability_missing, with what they do offer", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  await fixture.linked("ada", (daemon) => {
    daemon.capabilities = [
      { name: "docker" },
      { name: "claude-code", available: false, reason: "not installed" },
    ];
  });
  const post = (body: object) =>
    call(fixture.url, { method: "POST", path: "/api/runs", token, body });
  const missing = await post({ ...RUN, harness: "claude-code" });
  expect(missing).toMatchObject({
    status: 409,
    body: { code: "capability_missing", activeCapabilities: ["docker"], missing: ["claude-code"] },
  });
  expect(missing.body["detail"]).toContain("not installed");
  expect(await post({ ...RUN, sandbox: { provider: "virtualbox" } })).toMatchObject({
    status: 409,
    body: { code: "capability_missing", activeCapabilities: ["docker"] },
  });
  expect((await post({ ...RUN, sandbox: { provider: "docker" } })).status).toBe(202);
});

test("a full link is busy, by the hub's count and by the laptop's own", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  await daemon.beat({ load: { runs: 0, maxRuns: 1 } });
  const runId = await fixture.dispatch(token);
  const post = () => call(fixture.url, { method: "POST", path: "/api/runs", token, body: RUN });
  expect(await post()).toMatchObject({ status: 409, body: { code: "link_busy" } });
  daemon.emit(runId, "run.completed", { output: "" });
  await fixture.events(token, runId);
  await daemon.beat({ load: { runs: 1, maxRuns: 1 } });
  expect(await post()).toMatchObject({ status: 409, body: { code: "link_busy" } });
  await daemon.beat({ load: { runs: 0, maxRuns: 1 } });
  expect((await post()).status).toBe(202);
});

test("of several links the least loaded one is taken", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const one = await fixture.linked();
  const two = await fixture.linked();
  for (let i = 0; i < 4; i += 1) await fixture.dispatch(token);
  expect([one.dispatched.length, two.dispatched.length]).toEqual([2, 2]);
});

test("the daemon's own refusal is the caller's answer, and no run is left of it", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const headers = { "idempotency-key": "k" };
  for (const code of [
    "policy_denied",
    "isolation_unavailable",
    "link_busy",
    "unconfined_refused",
  ] as const) {
    daemon.onDispatch = () => {
      throw new DecoError(code, "by the owner's word");
    };
    const body = { ...RUN, thread: "t" };
    const answer = await call(fixture.url, {
      method: "POST",
      path: "/api/runs",
      token,
      body,
      headers,
    });
    expect(answer).toMatchObject({ status: 409, body: { code, detail: "by the owner's word" } });
  }
  expect((await call(fixture.url, { path: "/api/runs", token })).body["runs"]).toEqual([]);
  expect((await call(fixture.url, { path: "/api/threads/t", token })).status).toBe(404);
  daemon.onDispatch = () => undefined;
  const again = await call(fixture.url, {
    method: "POST",
    path: "/api/runs",
    token,
    body: RUN,
    headers,
  });
  expect(again.status).toBe(202);
});

test("a refusal after the caller was answered ends the run, with the leg", async () => {
  await using fixture = await HubFixture.start({ acceptTimeoutMs: 20 });
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const later = deferred();
  daemon.onDispatch = async () => {
    await later.promise;
    throw new DecoError("policy_denied", "too late to say");
  };
  const runId = await fixture.dispatch(token);
  expect(await fixture.run(token, runId)).toMatchObject({ status: "queued" });
  later.resolve();
  const [failed] = await fixture.events(token, runId);
  expect(failed).toMatchObject({
    seq: 1,
    type: "run.failed",
    payload: { code: "policy_denied", leg: "daemon", detail: "too late to say" },
  });
});

test("a dispatch that a cut tunnel swallowed goes out again, as the same attempt", async () => {
  await using fixture = await HubFixture.start({ acceptTimeoutMs: 50 });
  const token = await fixture.token();
  const daemon = await fixture.linked();
  daemon.onDispatch = () => new Promise(() => undefined);
  const runId = await fixture.dispatch(token);
  await daemon.cut();
  await fixture.reachable(token, daemon.linkId, false);
  daemon.onDispatch = () => undefined;
  await daemon.dial();
  await until(() => daemon.dispatched.length === 1);
  expect(daemon.dispatched).toMatchObject([{ runId, attempt: 1 }]);
  daemon.emit(runId, "run.completed", { output: "" });
  expect(await fixture.events(token, runId)).toHaveLength(1);
});

test("an answer that is not rightly signed is not believed", async () => {
  await using fixture = await HubFixture.start({ acceptTimeoutMs: 300 });
  const token = await fixture.token();
  const daemon = await fixture.linked();
  daemon.signAnswers = false;
  const runId = await fixture.dispatch(token);
  expect(await fixture.run(token, runId)).toMatchObject({ status: "queued", timings: {} });
  daemon.signAnswers = true;
  daemon.emit(runId, "run.completed", { output: "" });
  await fixture.events(token, runId);
});

test("an Idempotency-Key gives the same run again, also at the same time and after a restart", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const post = (body: object, key = "k1", user = token) =>
    call(fixture.url, {
      method: "POST",
      path: "/api/runs",
      token: user,
      body,
      headers: { "idempotency-key": key },
    });
  const [first, second] = await Promise.all([post(RUN), post(RUN)]);
  expect(first.status).toBe(202);
  expect(second.body["runId"]).toBe(first.body["runId"]);
  const reordered = await post({ prompt: "true", harness: "shell" });
  expect(reordered.body["runId"]).toBe(first.body["runId"]);
  expect(await post({ ...RUN, prompt: "false" })).toMatchObject({
    status: 422,
    body: { code: "idempotency_key_reused" },
  });
  expect((await post(RUN, "k2")).body["runId"]).not.toBe(first.body["runId"]);
  // Another user's key is another key.
  expect((await post(RUN, "k1", await fixture.token("bob"))).body["code"]).toBe("link_offline");
  await fixture.restart();
  expect((await post(RUN)).body["runId"]).toBe(first.body["runId"]);
  expect(daemon.dispatched.filter(({ runId }) => runId === first.body["runId"])).toHaveLength(1);
});

test("a key is free again after 24 h", async () => {
  let now = Date.now();
  await using fixture = await HubFixture.start({ now: () => now, acceptTimeoutMs: 50 });
  const daemon = await fixture.linked();
  const post = async () =>
    call(fixture.url, {
      method: "POST",
      path: "/api/runs",
      token: await fixture.token(),
      body: RUN,
      headers: { "idempotency-key": "k" },
    });
  const { body } = await post();
  now += 24 * 3600_000 + 1;
  await daemon.beat();
  // The daemon's clock did not move, so it refuses what the hub signs now: stored is enough here.
  expect((await post()).body["runId"]).not.toBe(body["runId"]);
});
