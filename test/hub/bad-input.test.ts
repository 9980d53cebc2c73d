import { expect, test } from "bun:test";
import { type Call, call } from "../support/hub-call.ts";
import { HubFixture } from "../support/hub-fixture.ts";

test("what does not fit is a problem document with its code and a fix", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const post = { method: "POST", path: "/api/runs", token } as const;
  const json = { "content-type": "application/json" };
  const run = { harness: "shell", prompt: "true" };
  const cases: [Call, number, string][] = [
    [{ path: "/nowhere", token }, 404, "not_found"],
    [{ path: "/api/nowhere" }, 404, "not_found"],
    [{ method: "PUT", path: "/api/runs", token, body: run }, 405, "method_not_allowed"],
    [{ method: "DELETE", path: "/api/runs/x/events", token }, 405, "method_not_allowed"],
    [{ ...post, raw: "{", headers: json }, 400, "invalid_json"],
    [{ ...post, raw: "", headers: json }, 400, "invalid_json"],
    [{ ...post, raw: "[]", headers: json }, 400, "invalid_request"],
    [{ ...post, raw: JSON.stringify(run) }, 415, "unsupported_media_type"],
    [
      { ...post, body: run, headers: { "content-type": "application/jsonp" } },
      415,
      "unsupported_media_type",
    ],
    [{ ...post, body: {} }, 400, "invalid_request"],
    [{ ...post, body: { ...run, color: "red" } }, 400, "invalid_request"],
    [{ ...post, body: { ...run, prompt: 7 } }, 400, "invalid_request"],
    [{ ...post, body: { ...run, prompt: "" } }, 400, "invalid_request"],
    [{ ...post, body: { ...run, sandbox: { provider: "moon" } } }, 400, "invalid_request"],
    [{ ...post, body: { ...run, sandbox: { gpu: true } } }, 400, "invalid_request"],
    [{ ...post, body: { ...run, harness: "emacs" } }, 400, "unknown_harness"],
    [{ ...post, body: { ...run, prompt: "x".repeat(11 * 1024 * 1024) } }, 413, "body_too_large"],
    [
      { ...post, body: run, headers: { "idempotency-key": "k".repeat(256) } },
      400,
      "invalid_request",
    ],
    [{ path: "/api/runs?limit=many", token }, 400, "invalid_request"],
    [{ path: "/api/runs/run_unknown", token }, 404, "run_not_found"],
    [{ path: "/api/threads/unknown", token }, 404, "thread_not_found"],
    [{ path: "/api/runs/run_unknown/events", token }, 404, "run_not_found"],
    [{ path: "/api/links/tunnel" }, 401, "bad_secret"],
    // Who has no secret learns nothing of the schema, and no body of theirs is read.
    [{ method: "POST", path: "/api/links/heartbeat", body: {} }, 401, "bad_secret"],
    [{ method: "POST", path: "/api/links/heartbeat", raw: "{" }, 401, "bad_secret"],
    [{ method: "POST", path: "/oauth/token" }, 415, "unsupported_media_type"],
  ];
  for (const [request, status, code] of cases) {
    const answer = await call(fixture.url, request);
    expect({ request: request.path, status: answer.status, code: answer.body["code"] }).toEqual({
      request: request.path,
      status,
      code,
    });
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(answer.body).toMatchObject({ type: `urn:deco-link:error:${code}`, status });
    expect(String(answer.body["fix"]).length).toBeGreaterThan(5);
  }
});

test("a wrong method says which ones are right", async () => {
  await using fixture = await HubFixture.start();
  const { headers } = await call(fixture.url, { method: "PATCH", path: "/api/runs" });
  expect(headers.get("allow")?.split(", ").toSorted()).toEqual(["GET", "HEAD", "POST"]);
});

test("who is not signed in learns nothing from what is wrong with the body", async () => {
  await using fixture = await HubFixture.start();
  for (const raw of ["{", JSON.stringify({ harness: "emacs", prompt: "x" })]) {
    const answer = await call(fixture.url, { method: "POST", path: "/api/runs", raw });
    expect(answer).toMatchObject({ status: 401, body: { code: "unauthorized" } });
  }
});

test("an upgrade elsewhere, by a page or under another Host is refused by a problem document", async () => {
  await using fixture = await HubFixture.start();
  const headers = {
    connection: "upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
  };
  const cases: [string, Record<string, string>, number, string][] = [
    ["/api/runs", {}, 404, "not_found"],
    ["/api/links/tunnel", {}, 401, "bad_secret"],
    ["/api/links/tunnel", { origin: fixture.url }, 403, "origin_refused"],
    ["/api/links/tunnel", { host: "evil.example" }, 421, "misdirected_request"],
  ];
  for (const [path, more, status, code] of cases) {
    const answer = await call(fixture.url, { path, headers: { ...headers, ...more } });
    expect({ status: answer.status, code: answer.body["code"] }).toEqual({ status, code });
  }
});
