import { expect, test } from "bun:test";
import { makeProof, newMachineKey } from "../../src/protocol/proof.ts";
import { call } from "../support/hub-call.ts";
import { HubFixture, until } from "../support/hub-fixture.ts";

test("the first registration needs a user token; later ones need the proof alone", async () => {
  await using fixture = await HubFixture.start();
  const daemon = fixture.daemon();
  const bare = await call(fixture.url, {
    method: "POST",
    path: "/api/links",
    body: await daemon.registration(),
  });
  expect(bare).toMatchObject({ status: 401, body: { code: "unauthorized" } });
  const first = await daemon.register(await fixture.token());
  expect(first).toMatchObject({
    heartbeatIntervalMs: 10_000,
    ttlMs: 30_000,
    hub: { protocol: { min: 1, max: 1 } },
  });
  expect(Buffer.from(first.signingKey, "base64url")).toHaveLength(32);
  const second = await daemon.register();
  expect(second.linkId).toBe(first.linkId);
  expect(second.epoch).toBeGreaterThan(first.epoch);
  expect(second.signingKey).not.toBe(first.signingKey);
});

test("an epoch is never below the hub's clock in ms", async () => {
  await using fixture = await HubFixture.start();
  const before = Date.now();
  const daemon = fixture.daemon();
  const { epoch } = await daemon.register(await fixture.token());
  expect(epoch).toBeGreaterThanOrEqual(before);
});

test("the older daemon is told that it is superseded, and its tunnel is closed at once", async () => {
  await using fixture = await HubFixture.start();
  const daemon = await fixture.linked();
  const twin = daemon.twin();
  await twin.register();
  const { code } = (await daemon.tunnel?.closed) ?? {};
  expect(code).toBe(4000);
  expect(await daemon.beat()).toMatchObject({ status: 401, body: { code: "superseded" } });
  await expect(daemon.dial()).rejects.toMatchObject({ code: "superseded" });
  expect(await twin.beat()).toMatchObject({ status: 200, body: { revoked: false, cancel: [] } });
});

test("an old owner's leave does not touch the new owner", async () => {
  await using fixture = await HubFixture.start();
  const daemon = await fixture.linked();
  const twin = daemon.twin();
  await twin.register();
  const secret = daemon.registered?.linkSecret ?? "";
  const left = await call(fixture.url, { method: "DELETE", path: "/api/links/me", secret });
  expect(left).toMatchObject({ status: 401, body: { code: "superseded" } });
  const { body } = await call(fixture.url, { path: "/api/links/me", token: await fixture.token() });
  expect(body["status"]).toBe("online");
});

test("the newest connection of a link wins", async () => {
  await using fixture = await HubFixture.start();
  const daemon = await fixture.linked();
  const first = daemon.tunnel;
  await daemon.dial();
  expect(await first?.closed).toMatchObject({ code: 1001, reason: "replaced" });
  const token = await fixture.token();
  await fixture.reachable(token, daemon.linkId);
  expect(await fixture.dispatch(token)).toStartWith("run_");
});

test("another key for a machine id is refused", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = fixture.daemon();
  await daemon.register(token);
  daemon.key = await newMachineKey();
  await expect(daemon.register(token)).rejects.toMatchObject({ code: "identity_changed" });
  await expect(daemon.register()).rejects.toMatchObject({ code: "identity_changed" });
  // Another user's link on that machine is another link.
  const { linkId } = await daemon.register(await fixture.token("bob"));
  expect(linkId).not.toBe(daemon.twin().machineId);
});

test("a proof for another hub, of another time, by another key or used twice is refused with the hub's time", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = fixture.daemon();
  const body = await daemon.registration();
  const { privateJwk } = daemon.key ?? (await newMachineKey());
  const other = await newMachineKey();
  const base = {
    privateKey: privateJwk,
    audience: fixture.url,
    machineId: daemon.machineId,
    now: Date.now(),
  };
  const post = (proof: unknown) =>
    call(fixture.url, { method: "POST", path: "/api/links", token, body: { ...body, proof } });
  const wrong = [
    await makeProof({ ...base, audience: "http://hub.example" }),
    await makeProof({ ...base, now: Date.now() - 120_000 }),
    await makeProof({ ...base, now: Date.now() + 120_000 }),
    await makeProof({ ...base, machineId: "another" }),
    await makeProof({ ...base, privateKey: other.privateJwk }),
    "not.a.jws",
  ];
  for (const proof of wrong) {
    const answer = await post(proof);
    expect(answer).toMatchObject({ status: 401, body: { code: "bad_proof" } });
    expect(Math.abs(Date.parse(String(answer.body["now"])) - Date.now())).toBeLessThan(5000);
  }
  expect((await post(body["proof"])).status).toBe(201);
  expect(await post(body["proof"])).toMatchObject({ status: 401, body: { code: "bad_proof" } });
});

test("a protocol out of range is told how to upgrade, whatever else it sends; any integer parses", async () => {
  await using fixture = await HubFixture.start();
  for (const protocolVersion of [0, -7, 2, 4_000_000_000]) {
    const answer = await call(fixture.url, {
      method: "POST",
      path: "/api/links",
      body: { protocolVersion },
    });
    expect(answer).toMatchObject({
      status: 426,
      body: {
        code: "upgrade_required",
        requiredVersion: 1,
        installHint: "npm i -g deco-link@latest",
      },
    });
    expect(answer.headers.get("upgrade")).toBe("deco-link/1");
  }
  const wrong = await call(fixture.url, {
    method: "POST",
    path: "/api/links",
    body: { protocolVersion: "1" },
  });
  expect(wrong).toMatchObject({ status: 400, body: { code: "invalid_request" } });
});

test("unknown fields and malformed capabilities do not keep a daemon of another age out", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = fixture.daemon();
  daemon.capabilities = [
    { name: "docker", version: "29" },
    { name: 7 },
    { name: "quantum", qubits: 3 },
  ];
  await daemon.register(token, { fromTheFuture: true });
  const runs = [{ runId: "r", attempt: 1, lastSeq: 0, status: "pondering" }, 7];
  expect((await daemon.beat({ alsoNew: 1, runs })).status).toBe(200);
  const { body } = await call(fixture.url, { path: "/api/links/me", token });
  expect(body["link"]).toMatchObject({
    capabilities: [
      { name: "docker", version: "29" },
      { name: "quantum", qubits: 3 },
    ],
  });
});

test("presence ends with the time to live, and comes back with a heartbeat", async () => {
  let now = Date.now();
  await using fixture = await HubFixture.start({ now: () => now });
  const token = await fixture.token();
  const daemon = fixture.daemon();
  await daemon.register(token);
  const status = async () =>
    (await call(fixture.url, { path: "/api/links/me", token })).body["status"];
  expect(await status()).toBe("online");
  now += 30_001;
  expect(await status()).toBe("offline");
  await daemon.beat();
  expect(await status()).toBe("online");
  await daemon.beat({ state: "suspended" });
  expect(await status()).toBe("suspended");
});

test("a link that falls silent over a run is suspended until its events are here, never just offline", async () => {
  let now = Date.now();
  await using fixture = await HubFixture.start({ now: () => now });
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  const status = async () =>
    (await call(fixture.url, { path: "/api/links/me", token })).body["status"];
  now += 30_001;
  expect(await status()).toBe("suspended");
  daemon.emit(runId, "run.completed", { output: "" });
  await until(async () => (await status()) === "offline");
});

test("a link that leaves is offline, or suspended while it owes events; leaving twice is fine", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const secret = daemon.registered?.linkSecret ?? "";
  const runId = await fixture.dispatch(token);
  const leave = () => call(fixture.url, { method: "DELETE", path: "/api/links/me", secret });
  expect((await leave()).status).toBe(204);
  expect((await leave()).status).toBe(204);
  const status = async () =>
    (await call(fixture.url, { path: "/api/links/me", token })).body["status"];
  expect(await status()).toBe("suspended");
  expect(await daemon.beat()).toMatchObject({ status: 401, body: { code: "unknown_link" } });

  await daemon.start(token);
  daemon.emit(runId, "run.completed", { output: "" });
  await fixture.events(token, runId);
  await until(() => daemon.run(runId).acked === 1);
  const again = daemon.registered?.linkSecret ?? "";
  await call(fixture.url, { method: "DELETE", path: "/api/links/me", secret: again });
  await until(async () => (await status()) === "offline");
});

test("a revoked link is out: heartbeat, tunnel and proof say so, until its user enrols it again", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const path = `/api/links/${daemon.linkId}`;
  const foreign = await call(fixture.url, {
    method: "DELETE",
    path,
    token: await fixture.token("bob"),
  });
  expect(foreign).toMatchObject({ status: 404, body: { code: "link_not_found" } });
  expect((await call(fixture.url, { method: "DELETE", path, token })).status).toBe(204);
  expect((await daemon.tunnel?.closed)?.code).toBe(4001);
  expect(await daemon.beat()).toMatchObject({ status: 401, body: { code: "revoked" } });
  await expect(daemon.dial()).rejects.toMatchObject({ code: "revoked" });
  await expect(daemon.register()).rejects.toMatchObject({ code: "revoked" });
  daemon.key = await newMachineKey();
  expect((await daemon.register(token)).linkId).toBe(daemon.linkId);
});

test("a secret that is none, and one of another hub, are bad_secret", async () => {
  await using fixture = await HubFixture.start();
  await using elsewhere = await HubFixture.start();
  const daemon = fixture.daemon();
  const { epoch } = await daemon.register(await fixture.token());
  const other = elsewhere.daemon();
  const { linkSecret } = await other.register(await elsewhere.token());
  const body = { epoch, state: "online", load: { runs: 0 }, runs: [] };
  for (const secret of ["", "nonsense", linkSecret]) {
    const answer = await call(fixture.url, {
      method: "POST",
      path: "/api/links/heartbeat",
      secret,
      body,
    });
    expect(answer).toMatchObject({ status: 401, body: { code: "bad_secret" } });
  }
});

test("a secret that ran out says so", async () => {
  let now = Date.now();
  await using fixture = await HubFixture.start({ now: () => now });
  const daemon = fixture.daemon();
  await daemon.register(await fixture.token());
  now += 31 * 24 * 3600_000;
  expect(await daemon.beat()).toMatchObject({ status: 401, body: { code: "secret_expired" } });
});

test("a laptop that slept for a month comes back by its proof, even with a token that ran out", async () => {
  let now = Date.now() - 40 * 24 * 3600_000;
  await using fixture = await HubFixture.start({ now: () => now });
  const token = await fixture.token();
  now = Date.now();
  const fresh = await fixture.token();
  const daemon = fixture.daemon();
  await daemon.register(fresh);
  expect((await daemon.register(token)).linkId).toBe(daemon.linkId);
  // For a machine that is not known, it is no use.
  await expect(fixture.daemon().register(token)).rejects.toMatchObject({ code: "unauthorized" });
});
