import { expect, test } from "bun:test";
import { openHubKeys } from "../../src/hub/keys.ts";
import { type Call, call } from "../support/hub-call.ts";
import { HubFixture } from "../support/hub-fixture.ts";

const RUN = { harness: "shell", prompt: "true" };

test("each route refuses the other kind of credential with 401", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const { linkSecret = "", epoch = 0 } = daemon.registered ?? {};
  const onUserRoutes: Call[] = [
    { path: "/api/links/me", token: linkSecret },
    { path: "/api/runs", token: linkSecret },
    { path: "/api/runs", secret: linkSecret },
    { method: "POST", path: "/api/runs", token: linkSecret, body: RUN },
    { method: "POST", path: "/api/runs", secret: linkSecret, body: RUN },
    { path: "/api/threads/t", secret: linkSecret },
    { path: "/api/capabilities", token: linkSecret },
    { path: "/api/runs", headers: { authorization: "Basic YTpi" } },
    { path: "/api/runs" },
  ];
  for (const one of onUserRoutes) {
    expect(await call(fixture.url, one)).toMatchObject({
      status: 401,
      body: { code: "unauthorized" },
    });
  }
  const beat = { epoch, state: "online", load: { runs: 0 }, runs: [] };
  const onLinkRoutes: Call[] = [
    { method: "POST", path: "/api/links/heartbeat", secret: token, body: beat },
    { method: "POST", path: "/api/links/heartbeat", token, body: beat },
    { method: "DELETE", path: "/api/links/me", token },
    { path: "/api/links/tunnel", token },
  ];
  for (const one of onLinkRoutes) {
    expect(await call(fixture.url, one)).toMatchObject({
      status: 401,
      body: { code: "bad_secret" },
    });
  }
  const registration = { method: "POST", path: "/api/links", body: await daemon.registration() };
  expect(await call(fixture.url, { ...registration, token: linkSecret })).toMatchObject({
    status: 401,
  });
});

test("a token that ran out, or of another hub, is no token", async () => {
  await using fixture = await HubFixture.start();
  await using elsewhere = await HubFixture.start();
  const old = await openHubKeys(fixture.dataDir, () => Date.now() - 3600_000).userToken({
    user: "ada",
    ttlSeconds: 60,
  });
  for (const token of [old, await elsewhere.token(), "x.y.z"]) {
    expect(await call(fixture.url, { path: "/api/runs", token })).toMatchObject({
      status: 401,
      body: { code: "unauthorized" },
    });
  }
});

test("a token made offline with the hub's data directory is good", async () => {
  await using fixture = await HubFixture.start();
  const token = await openHubKeys(fixture.dataDir).userToken({ user: "eve", ttlSeconds: 60 });
  expect((await call(fixture.url, { path: "/api/runs", token })).status).toBe(200);
});

test("another user's runs, threads and links are not found, like ones that never were", async () => {
  await using fixture = await HubFixture.start();
  const ada = await fixture.token("ada");
  const bob = await fixture.token("bob");
  const daemon = await fixture.linked("ada");
  const runId = await fixture.dispatch(ada, { thread: "t" });
  const asBob: Call[] = [
    { path: `/api/runs/${runId}` },
    { path: `/api/runs/${runId}/events` },
    { method: "POST", path: `/api/runs/${runId}/cancel` },
    { method: "POST", path: `/api/runs/${runId}/input`, body: { text: "x" } },
    { method: "POST", path: `/api/runs/${runId}/approve`, body: {} },
    { path: "/api/threads/t" },
  ];
  for (const one of asBob) {
    const known = await call(fixture.url, { ...one, token: bob });
    const unknown = await call(fixture.url, {
      ...one,
      path: one.path.replace(runId, "run_x").replace("/t", "/u"),
      token: bob,
    });
    expect(known.status).toBe(404);
    if (one.path !== "/api/threads/t") expect(known.body).toEqual(unknown.body);
  }
  expect((await call(fixture.url, { path: "/api/runs", token: bob })).body["runs"]).toEqual([]);
  expect((await call(fixture.url, { path: "/api/links/me", token: bob })).body).toEqual({
    status: "offline",
    link: null,
    links: [],
  });
  const body = { ...RUN, link: daemon.linkId };
  expect(
    await call(fixture.url, { method: "POST", path: "/api/runs", token: bob, body }),
  ).toMatchObject({ status: 404, body: { code: "link_not_found" } });
});

test("a Host that is not ours is misdirected, on every path and for the tunnel (DNS rebinding)", async () => {
  await using fixture = await HubFixture.start({ publicUrl: "https://hub.example:8443" });
  const token = await fixture.token();
  const cookie = await fixture.session();
  for (const host of [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "169.254.1.1",
    "0.0.0.0",
  ]) {
    for (const path of ["/healthz", "/api/links/me", "/openapi.json", "/nowhere"]) {
      const answer = await call(fixture.url, { path, token, cookie, headers: { host } });
      expect(answer).toMatchObject({ status: 421, body: { code: "misdirected_request" } });
    }
  }
  const malformed = { host: "localhost@evil.example" };
  const answer = await call(fixture.url, { path: "/healthz", headers: malformed });
  expect(answer).toMatchObject({ status: 421, body: { code: "misdirected_request" } });
  for (const host of ["localhost:1", "127.0.0.1", "[::1]:4000", "LOCALHOST", "hub.example"]) {
    expect((await call(fixture.url, { path: "/healthz", headers: { host } })).status).toBe(200);
  }
});

test("a code opens a session once, within 60 s, and the cookie is HttpOnly and SameSite=Strict", async () => {
  let now = Date.now();
  await using fixture = await HubFixture.start({ now: () => now });
  const code = fixture.hub.loginCode("ada");
  const entered = await call(fixture.url, { path: `/sign-in?code=${code}` });
  expect(entered.status).toBe(303);
  expect(entered.headers.get("location")).toBe("/");
  const setCookie = entered.headers.get("set-cookie") ?? "";
  expect(setCookie).toContain("HttpOnly");
  expect(setCookie).toContain("SameSite=Strict");
  const cookie = setCookie.split(";")[0] ?? "";
  expect((await call(fixture.url, { path: "/api/runs", cookie })).status).toBe(200);

  const again = await call(fixture.url, { path: `/sign-in?code=${code}` });
  expect(again).toMatchObject({ status: 401, body: { code: "sign_in_code_invalid" } });
  const late = fixture.hub.loginCode("ada");
  now += 60_001;
  expect((await call(fixture.url, { path: `/sign-in?code=${late}` })).status).toBe(401);
  const made = openHubKeys(fixture.dataDir, () => now).loginCode("ada");
  const posted = await call(fixture.url, {
    method: "POST",
    path: "/sign-in",
    body: { code: made },
  });
  expect(posted.status).toBe(204);
});

test("behind https the cookie travels over https only", async () => {
  await using fixture = await HubFixture.start({ publicUrl: "https://hub.example" });
  const { headers } = await call(fixture.url, {
    path: `/sign-in?code=${fixture.hub.loginCode("ada")}`,
  });
  expect(headers.get("set-cookie")).toContain("Secure");
});

test("whoever guesses codes is slowed down, and the owner gets in all the same", async () => {
  await using fixture = await HubFixture.start();
  const statuses = new Set<number>();
  for (let i = 0; i < 25; i += 1) {
    const answer = await call(fixture.url, { path: `/sign-in?code=guess${i}` });
    statuses.add(answer.status);
    if (answer.status === 429) expect(answer.headers.get("retry-after")).toBe("10");
  }
  expect([...statuses]).toEqual([401, 429]);
  expect((await fixture.session()).length).toBeGreaterThan(40);
});

test("a forged code, and one whose user was changed, are refused", async () => {
  await using fixture = await HubFixture.start();
  const [body = "", mac = ""] = fixture.hub.loginCode("ada").split(".");
  const claims: unknown = JSON.parse(Buffer.from(body, "base64url").toString());
  const forged = Buffer.from(JSON.stringify(Object.assign({}, claims, { user: "root" }))).toString(
    "base64url",
  );
  for (const code of [`${forged}.${mac}`, body, `${body}.`, `${body}.${mac}.x`, "", "."]) {
    const answer = await call(fixture.url, { path: `/sign-in?code=${encodeURIComponent(code)}` });
    expect(answer).toMatchObject({ status: 401, body: { code: "sign_in_code_invalid" } });
  }
});

test("a foreign page changes nothing and reads nothing with the user's cookie", async () => {
  await using fixture = await HubFixture.start();
  const cookie = await fixture.session();
  const daemon = await fixture.linked();
  const post = { method: "POST", path: "/api/runs", cookie } as const;
  const refused: Call[] = [
    { ...post, body: RUN, headers: { origin: "http://evil.example" } },
    { ...post, body: RUN, headers: { origin: "null" } },
    { ...post, body: RUN, headers: { origin: "http://localhost:9" } },
    // Another server may hold the same port behind TLS.
    { ...post, body: RUN, headers: { origin: fixture.url.replace("http:", "https:") } },
    { ...post, body: RUN },
    {
      ...post,
      raw: JSON.stringify(RUN),
      headers: { origin: "http://evil.example", "content-type": "text/plain" },
    },
    { path: "/api/runs", cookie, headers: { origin: "http://evil.example" } },
    { path: "/api/runs", cookie, headers: { "sec-fetch-site": "cross-site" } },
    { path: "/api/runs", cookie, headers: { "sec-fetch-site": "same-site" } },
  ];
  for (const one of refused) {
    expect(await call(fixture.url, one)).toMatchObject({
      status: 403,
      body: { code: "origin_refused" },
    });
  }
  const asked = await call(fixture.url, {
    method: "OPTIONS",
    path: "/api/runs",
    cookie,
    headers: { origin: "http://evil.example", "access-control-request-method": "POST" },
  });
  expect(asked.status).toBe(405);
  for (const name of asked.headers.keys()) expect(name).not.toStartWith("access-control-");
  expect(daemon.dispatched).toEqual([]);
});

test("a text/plain form of our own origin is not JSON enough", async () => {
  await using fixture = await HubFixture.start();
  const cookie = await fixture.session();
  for (const type of [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain; application/json",
  ]) {
    const answer = await call(fixture.url, {
      method: "POST",
      path: "/api/runs",
      cookie,
      raw: JSON.stringify(RUN),
      headers: { origin: fixture.url, "content-type": type },
    });
    expect(answer).toMatchObject({ status: 415, body: { code: "unsupported_media_type" } });
  }
});

test("our own page may dispatch with its cookie, and after sign-out no more", async () => {
  await using fixture = await HubFixture.start();
  const cookie = await fixture.session();
  await fixture.linked();
  const headers = { origin: fixture.url };
  const ran = await call(fixture.url, {
    method: "POST",
    path: "/api/runs",
    cookie,
    headers,
    body: RUN,
  });
  expect(ran.status).toBe(202);
  expect(
    (
      await call(fixture.url, {
        path: "/api/runs",
        cookie,
        headers: { "sec-fetch-site": "same-origin" },
      })
    ).status,
  ).toBe(200);
  const out = await call(fixture.url, {
    method: "POST",
    path: "/sign-out",
    cookie,
    headers,
    body: {},
  });
  expect(out.status).toBe(204);
  expect((await call(fixture.url, { path: "/api/runs", cookie })).status).toBe(401);
});

test("a session survives a restart of the hub", async () => {
  await using fixture = await HubFixture.start();
  const cookie = await fixture.session();
  await fixture.restart();
  expect((await call(fixture.url, { path: "/api/runs", cookie })).status).toBe(200);
});
