import { afterAll, describe, expect, test } from "bun:test";
import { DecoError } from "../../src/protocol/errors.ts";
import { checkResponse } from "../../src/protocol/signature.ts";
import { controlPlane, read, type Transport, type WireRequest } from "../support/control-plane.ts";

const STATUS: WireRequest = { method: "GET", path: "/v1/status" };
const json = { "content-type": "application/json" };
const put = (body: string, path = "/v1/sandboxes/box-1"): WireRequest => ({
  method: "PUT",
  path,
  body,
  headers: json,
});
const dispatch = (change: object = {}): WireRequest => ({
  method: "POST",
  path: "/v1/runs",
  headers: json,
  body: JSON.stringify({ runId: "run_1", attempt: 1, harness: "shell", prompt: "x", ...change }),
});

describe.each(["tcp", "tunnel"] as const)("through %s", (through: Transport) => {
  // Refusals leave nothing behind, so that one plane takes them all.
  const refusing = controlPlane();
  afterAll(async () => (await refusing)[Symbol.asyncDispose]());

  test("a signed request is answered, and the answer is signed for this very request", async () => {
    await using plane = await controlPlane();
    const request = plane.sign(STATUS);
    const answer = await read(await plane.send(through, request));
    expect(answer).toMatchObject({ status: 200, json: { state: "online", epoch: 1 } });
    const requestSignature = request.headers?.["signature"] ?? "";
    const check = { key: plane.session.key, status: 200, body: answer.bytes, requestSignature };
    const headers = (name: string) => answer.headers.get(name) ?? undefined;
    checkResponse({ ...check, headers });
    const other = plane.sign(STATUS).headers?.["signature"] ?? "";
    expect(() => checkResponse({ ...check, headers, requestSignature: other })).toThrow();
  });

  test("/healthz alone is open", async () => {
    await using plane = await controlPlane();
    const answer = await read(await plane.send(through, { method: "GET", path: "/healthz" }));
    expect(answer).toMatchObject({ status: 200, json: { status: "ok" } });
  });

  test.each([
    ["without a signature", (_p, r) => r, "signature_missing"],
    ["with another label", (p, r) => edit(p.sign(r), /sig1=/g, "sig2="), "signature_invalid"],
    ["of another link", (p, r) => p.sign(r, { linkId: "link_2" }), "wrong_link"],
    ["of an older epoch", (p, r) => p.sign(r, { epoch: 0 }), "wrong_epoch"],
    ["of an hour ago", (p, r) => p.sign(r, { now: Date.now() - 3_600_000 }), "signature_expired"],
    ["of the future", (p, r) => p.sign(r, { now: Date.now() + 3_600_000 }), "signature_expired"],
    ["by another key", (p, r) => p.sign(r, { key: new Uint8Array(32) }), "signature_invalid"],
    ["for another path", (p, r) => p.sign(r, { path: "/v1/runs" }), "signature_invalid"],
    ["for another query", (p, r) => p.sign(r, { query: "?a=1" }), "signature_invalid"],
    ["for another method", (p, r) => p.sign(r, { method: "POST" }), "signature_invalid"],
    ["for another body", (p, r) => ({ ...p.sign(r), body: '{"tier":1}' }), "digest_mismatch"],
    ["as a stream, not on its route", (p, r) => p.sign(r, { body: "stream" }), "signature_invalid"],
  ] as [string, (p: Plane, r: WireRequest) => WireRequest, string][])(
    "a request %s is refused with a typed 401",
    async (_how, make, code) => {
      const plane = await refusing;
      const answer = await read(await plane.send(through, make(plane, put("{}"))));
      expect(answer).toMatchObject({ status: 401, type: "application/problem+json" });
      expect(answer.json).toMatchObject({ code, fix: expect.any(String), status: 401 });
      expect(plane.provider.boxes.size).toBe(0);
    },
  );

  test.each([
    ["/v1/x/../status", "/v1/status"],
    ["/v1/x/%2e%2e/status", "/v1/status"],
    ["/v1/./status", "/v1/status"],
    ["/v1/status?a='b'", "/v1/status?a=%27b%27"],
    ['/v1/status?a="b"', "/v1/status?a=%22b%22"],
    ["/v1/status#x", "/v1/status"],
  ])(
    "%s is signed as it stands on the wire, not as a URL parser reads it",
    async (path, folded) => {
      const plane = await refusing;
      const [asSent, asRead] = [path, folded].map((text) => {
        const [name = "", query] = text.split("?");
        return plane.sign(STATUS, { path: name, query: query === undefined ? "" : `?${query}` });
      });
      const good = await read(await plane.send(through, { ...STATUS, ...asSent, path }));
      expect(good.json["code"]).not.toBe("signature_invalid");
      const forged = await read(await plane.send(through, { ...STATUS, ...asRead, path }));
      expect(forged).toMatchObject({ status: 401, json: { code: "signature_invalid" } });
    },
  );

  test("a request that is sent twice is refused the second time", async () => {
    await using plane = await controlPlane();
    const request = plane.sign(STATUS);
    expect((await read(await plane.send(through, request))).status).toBe(200);
    const again = await read(await plane.send(through, request));
    expect(again.json).toMatchObject({ code: "nonce_replayed" });
  });

  test("what was captured before a new registration is refused after it", async () => {
    await using plane = await controlPlane();
    const captured = plane.sign(STATUS);
    plane.register();
    const answer = await read(await plane.send(through, captured));
    expect(answer.json).toMatchObject({ code: "wrong_epoch" });
  });

  test.each([
    ["no JSON", put("{"), 400, "invalid_json"],
    ["no body", { ...put(""), body: "" }, 400, "invalid_json"],
    ["no UTF-8", { ...put(""), body: new Uint8Array([0x22, 0xff, 0x22]) }, 400, "invalid_json"],
    ["another content type", { ...put("{}"), headers: {} }, 415, "unsupported_media_type"],
    [
      "text",
      { ...put("{}"), headers: { "content-type": "text/plain" } },
      415,
      "unsupported_media_type",
    ],
    ["an unknown field", put('{"root":true}'), 400, "invalid_request"],
    ["a field of a wrong type", put('{"tier":"2"}'), 400, "invalid_request"],
    ["an array", put("[]"), 400, "invalid_request"],
    ["a handle in capitals", put("{}", "/v1/sandboxes/BOX"), 400, "invalid_handle"],
    ["an empty handle", put("{}", "/v1/sandboxes/"), 400, "invalid_handle"],
    ["a handle with a dot", put("{}", "/v1/sandboxes/a%2e"), 400, "invalid_handle"],
    ["a handle of 64", put("{}", `/v1/sandboxes/${"a".repeat(64)}`), 400, "invalid_handle"],
    ["an unknown harness", dispatch({ harness: "nethack" }), 400, "unknown_harness"],
    ["an empty prompt", dispatch({ prompt: "" }), 400, "invalid_request"],
    ["an attempt of 0", dispatch({ attempt: 0 }), 400, "invalid_request"],
    ["a runId that is a number", dispatch({ runId: 7 }), 400, "invalid_request"],
    ["an unknown run", { method: "GET", path: "/v1/runs/nope" }, 404, "run_not_found"],
    [
      "events of an unknown run",
      { method: "GET", path: "/v1/runs/nope/events" },
      404,
      "run_not_found",
    ],
    ["an unknown path", { method: "GET", path: "/v2" }, 404, "not_found"],
    ["a wrong method", { method: "PATCH", path: "/v1/status" }, 405, "method_not_allowed"],
    ["an unknown sandbox", { method: "GET", path: "/v1/sandboxes/nope" }, 404, "sandbox_not_found"],
    ["a port of 0", { method: "GET", path: "/v1/sandboxes/a/ports/0/" }, 400, "invalid_request"],
    ["a tier that nobody allowed", dispatch({ sandbox: { tier: 4 } }), 409, "policy_denied"],
    [
      "a tier that can't be had",
      dispatch({ sandbox: { tier: 1, egress: "open" } }),
      409,
      "isolation_unavailable",
    ],
  ] as [string, WireRequest, number, string][])(
    "%s is a typed, signed answer with its fix",
    async (_what, request, status, code) => {
      const plane = await refusing;
      const signedRequest = plane.sign(request);
      const answer = await read(await plane.send(through, signedRequest));
      expect(answer).toMatchObject({ status, type: "application/problem+json" });
      expect(answer.json).toMatchObject({ code, fix: expect.any(String) });
      checkResponse({
        key: plane.session.key,
        status,
        body: answer.bytes,
        requestSignature: signedRequest.headers?.["signature"] ?? "",
        headers: (name) => answer.headers.get(name) ?? undefined,
      });
    },
  );

  test("a body over the limit is 413, told by its length or found while hashing", async () => {
    await using plane = await controlPlane({ maxBodyBytes: 64 });
    const body = JSON.stringify({ env: { A: "x".repeat(100) } });
    const told = await read(await plane.send(through, plane.sign(put(body))));
    expect(told).toMatchObject({ status: 413, json: { code: "body_too_large" } });
    const chunks = new Blob([body]).stream();
    const found = await plane.send(through, { ...plane.sign(put(body)), body: chunks });
    expect((await read(found)).json).toMatchObject({ code: "body_too_large" });
    expect(plane.provider.boxes.size).toBe(0);
  });

  test("sandboxes are made once, listed, inspected and removed, however often one asks", async () => {
    await using plane = await controlPlane();
    const ask = async (request: WireRequest) =>
      read(await plane.send(through, plane.sign(request)));
    expect(await ask(put("{}"))).toMatchObject({ status: 201, json: { handle: "box-1" } });
    const again = await ask(put("{}"));
    expect(again).toMatchObject({ status: 200, json: { provider: "docker", status: "running" } });
    expect(again.json).not.toHaveProperty("runDir");
    const list = await ask({ method: "GET", path: "/v1/sandboxes" });
    expect(list.json).toMatchObject({ sandboxes: [{ handle: "box-1" }] });
    const one = { method: "GET", path: "/v1/sandboxes/box-1" };
    expect((await ask(one)).json).toMatchObject({ handle: "box-1" });
    expect((await ask({ ...one, method: "DELETE" })).status).toBe(204);
    expect((await ask({ ...one, method: "DELETE" })).status).toBe(204);
    expect((await ask(one)).status).toBe(404);
  });

  test("an engine that does not answer is an error, never 'there is none' (LESSONS 27)", async () => {
    await using plane = await controlPlane();
    plane.provider.down = new DecoError("docker_unavailable", "no answer");
    const request = plane.sign({ method: "DELETE", path: "/v1/sandboxes/box-1" });
    const answer = await read(await plane.send(through, request));
    expect(answer).toMatchObject({ status: 503, json: { code: "docker_unavailable" } });
  });
});

test("without a registration every signed path is refused, and /healthz answers", async () => {
  await using plane = await controlPlane();
  const request = plane.sign(STATUS);
  plane.register();
  const answer = await read(await plane.send("tcp", { ...request, headers: {} }));
  expect(answer.json).toMatchObject({ code: "signature_missing" });
});

test("the refusal names the first thing that is wrong, in the order of the protocol", async () => {
  await using plane = await controlPlane({ maxBodyBytes: 64 });
  const long = put(JSON.stringify({ env: { A: "x".repeat(100) } }));
  const past = Date.now() - 3_600_000;
  const bad = { linkId: "link_2", epoch: 0, now: past, key: new Uint8Array(32) };
  const steps: [Partial<Parameters<Plane["sign"]>[1] & object>, string][] = [
    [bad, "wrong_link"],
    [{ epoch: 0, now: past, key: bad.key }, "wrong_epoch"],
    [{ now: past, key: bad.key }, "signature_expired"],
    [{ key: bad.key, body: new Uint8Array(1) }, "signature_invalid"],
    [{ body: new Uint8Array(1) }, "body_too_large"],
  ];
  for (const [change, code] of steps) {
    const answer = await read(await plane.send("tcp", plane.sign(long, change)));
    expect(answer.json).toMatchObject({ code });
  }
  const wrong = plane.sign(put("{}"), { body: new Uint8Array(1), nonce: "n".repeat(22) });
  expect((await read(await plane.send("tcp", wrong))).json).toMatchObject({
    code: "digest_mismatch",
  });
  // A nonce counts only once everything else was right: the refused one is not used up.
  const right = plane.sign(put("{}"), { nonce: "n".repeat(22) });
  expect((await read(await plane.send("tcp", right))).status).toBe(201);
  const replay = plane.sign(put("{}"), { nonce: "n".repeat(22) });
  expect((await read(await plane.send("tcp", replay))).json).toMatchObject({
    code: "nonce_replayed",
  });
});

test("the MAC is checked before a byte of the body is read", async () => {
  await using plane = await controlPlane();
  let pulled = 0;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      pulled += 1;
      if (pulled > 1000) throw new Error("the body was read");
      controller.enqueue(new Uint8Array(64 * 1024));
    },
  });
  const request = plane.sign(put("{}"), { key: new Uint8Array(32) });
  const answer = await plane.send("tunnel", { ...request, body: endless });
  expect((await read(answer)).json).toMatchObject({ code: "signature_invalid" });
  expect(pulled).toBeLessThan(100);
});

test("the same app answers without signatures on the unix socket, bad input included", async () => {
  await using plane = await controlPlane();
  expect((await read(await plane.send("socket", STATUS))).json).toMatchObject({ state: "online" });
  expect((await read(await plane.send("socket", put("{}")))).status).toBe(201);
  const bad = await read(await plane.send("socket", put('{"x":1}')));
  expect(bad).toMatchObject({ status: 400, json: { code: "invalid_request" } });
});

type Plane = Awaited<ReturnType<typeof controlPlane>>;

function edit(request: WireRequest, what: RegExp, by: string): WireRequest {
  const fields = Object.entries(request.headers ?? {});
  const headers = fields.map(([name, value]) => [
    name,
    name.startsWith("signature") ? value.replace(what, by) : value,
  ]);
  return { ...request, headers: Object.fromEntries(headers) };
}
