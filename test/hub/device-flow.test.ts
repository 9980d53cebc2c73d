import { expect, test } from "bun:test";
import { call } from "../support/hub-call.ts";
import { HubFixture } from "../support/hub-fixture.ts";

const GRANT = "urn:ietf:params:oauth:grant-type:device_code";

test("a terminal gets a user token once its code is approved on the page", async () => {
  let now = Date.now();
  await using fixture = await HubFixture.start({ now: () => now });
  const begun = await begin(fixture);
  expect(begun).toMatchObject({
    verification_uri: `${fixture.url}/device`,
    expires_in: 600,
    interval: 5,
  });
  expect(begun.user_code).toMatch(/^[B-Z]{4}-[B-Z]{4}$/);
  expect(await poll(fixture, begun.device_code)).toMatchObject({
    status: 400,
    body: { error: "authorization_pending", code: "authorization_pending" },
  });
  const approved = await decide(fixture, begun.user_code.toLowerCase(), true);
  expect(approved.status).toBe(204);
  now += 5001;
  const { status, body } = await poll(fixture, begun.device_code);
  expect({ status, type: body["token_type"] }).toEqual({ status: 200, type: "Bearer" });
  const token = String(body["access_token"]);
  expect((await call(fixture.url, { path: "/api/runs", token })).status).toBe(200);
  now += 5001;
  expect(await poll(fixture, begun.device_code)).toMatchObject({
    status: 400,
    body: { error: "expired_token" },
  });
});

test("a poll that is no poll gets OAuth's own words for it", async () => {
  await using fixture = await HubFixture.start();
  const ask = (raw: string) =>
    call(fixture.url, {
      method: "POST",
      path: "/oauth/token",
      raw,
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
  const grant = encodeURIComponent(GRANT);
  for (const [raw, error] of [
    ["", "invalid_request"],
    [`grant_type=${grant}`, "invalid_request"],
    [`grant_type=${grant}&device_code=`, "invalid_request"],
    ["grant_type=password&device_code=x", "unsupported_grant_type"],
    ["grant_type=password", "unsupported_grant_type"],
  ] as const) {
    expect(await ask(raw)).toMatchObject({ status: 400, body: { error, code: "invalid_request" } });
  }
});

test("who polls too fast is told to slow down, by 5 s more each time", async () => {
  let now = Date.now();
  await using fixture = await HubFixture.start({ now: () => now });
  const { device_code } = await begin(fixture);
  const error = async () => (await poll(fixture, device_code)).body["error"];
  expect(await error()).toBe("authorization_pending");
  expect(await error()).toBe("slow_down");
  now += 5001;
  expect(await error()).toBe("slow_down");
  now += 15_001;
  expect(await error()).toBe("authorization_pending");
});

test("a denied code, one that ran out and one that never was end the sign-in", async () => {
  let now = Date.now();
  await using fixture = await HubFixture.start({ now: () => now });
  const denied = await begin(fixture);
  await decide(fixture, denied.user_code, false);
  expect((await poll(fixture, denied.device_code)).body["error"]).toBe("access_denied");
  const late = await begin(fixture);
  now += 600_001;
  expect((await poll(fixture, late.device_code)).body["error"]).toBe("expired_token");
  expect((await decide(fixture, late.user_code, true)).status).toBe(400);
  expect((await poll(fixture, "guess")).body["error"]).toBe("expired_token");
});

test("only the signed-in page approves: no token, no foreign page, no guesser", async () => {
  await using fixture = await HubFixture.start();
  const { user_code } = await begin(fixture);
  const path = "/api/device/approve";
  const body = { userCode: user_code, approve: true };
  const cookie = await fixture.session();
  const post = { method: "POST", path, body } as const;
  expect(await call(fixture.url, post)).toMatchObject({ status: 401 });
  expect(await call(fixture.url, { ...post, token: await fixture.token() })).toMatchObject({
    status: 401,
  });
  const foreign = { ...post, cookie, headers: { origin: "http://evil.example" } };
  expect(await call(fixture.url, foreign)).toMatchObject({
    status: 403,
    body: { code: "origin_refused" },
  });
  const statuses = [];
  for (let i = 0; i < 12; i += 1)
    statuses.push((await decide(fixture, "BBBB-BBBB", true, cookie)).status);
  expect(statuses).toEqual([...Array.from({ length: 10 }, () => 400), 429, 429]);
});

test("another grant is refused in OAuth's words", async () => {
  await using fixture = await HubFixture.start();
  const raw = new URLSearchParams({ grant_type: "password", device_code: "x" }).toString();
  expect(await form(fixture, "/oauth/token", raw)).toMatchObject({
    status: 400,
    body: { error: "unsupported_grant_type" },
  });
  const json = await call(fixture.url, { method: "POST", path: "/oauth/token", body: {} });
  expect(json).toMatchObject({ status: 415, body: { code: "unsupported_media_type" } });
});

function form(fixture: HubFixture, path: string, raw: string) {
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  return call(fixture.url, { method: "POST", path, raw, headers });
}

async function begin(fixture: HubFixture) {
  const { status, body } = await form(fixture, "/oauth/device_authorization", "client_id=deco");
  expect(status).toBe(200);
  return {
    ...body,
    device_code: String(body["device_code"]),
    user_code: String(body["user_code"]),
  };
}

function poll(fixture: HubFixture, device_code: string) {
  return form(
    fixture,
    "/oauth/token",
    new URLSearchParams({ grant_type: GRANT, device_code }).toString(),
  );
}

async function decide(fixture: HubFixture, userCode: string, approve: boolean, session?: string) {
  const cookie = session ?? (await fixture.session());
  const headers = { origin: fixture.url };
  return call(fixture.url, {
    method: "POST",
    path: "/api/device/approve",
    cookie,
    headers,
    body: { userCode, approve },
  });
}
