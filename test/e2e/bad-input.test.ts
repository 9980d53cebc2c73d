import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { WireRequest } from "../support/control-plane.ts";
import { checkAnswer, startWire, type Wire } from "../support/e2e-wire.ts";
import { dockerAnswers } from "../support/engines.ts";
import { call } from "../support/hub-call.ts";

const hasDocker = await dockerAnswers();
const JSON_TYPE = { "content-type": "application/json" };
const STATUS: WireRequest = { method: "GET", path: "/v1/status" };
const put = (body: unknown, path = "/v1/sandboxes/box-1"): WireRequest => ({
  method: "PUT",
  path,
  headers: JSON_TYPE,
  body: typeof body === "string" ? body : JSON.stringify(body),
});
const dispatch = (change: object = {}): WireRequest => ({
  method: "POST",
  path: "/v1/runs",
  headers: JSON_TYPE,
  body: JSON.stringify({ runId: "run_1", attempt: 1, harness: "shell", prompt: "true", ...change }),
});
const get = (path: string): WireRequest => ({ method: "GET", path });
const post = (path: string, body: unknown): WireRequest => ({ ...put(body, path), method: "POST" });

const OVERSIZE = `{"image":"${"x".repeat(10 * 1024 * 1024)}"}`;

/** Code and status of each bad body, name and path; the signature is good. */
const SIGNED: [string, WireRequest, number, string][] = [
  ["an unknown field", put({ root: true }), 400, "invalid_request"],
  ["an unknown field of a run", dispatch({ privileged: true }), 400, "invalid_request"],
  [
    "an unknown field in the sandbox",
    dispatch({ sandbox: { mounts: ["/"] } }),
    400,
    "invalid_request",
  ],
  ["a wrong type", put({ tier: "2" }), 400, "invalid_request"],
  ["a prompt that is a number", dispatch({ prompt: 1 }), 400, "invalid_request"],
  [
    "an environment that is a list",
    dispatch({ sandbox: { env: ["A=1"] } }),
    400,
    "invalid_request",
  ],
  ["an egress of ours that is none", put({ egress: "all" }), 400, "invalid_request"],
  ["an empty handle", put({}, "/v1/sandboxes/"), 400, "invalid_handle"],
  ["a handle that is an object", put({}, "/v1/sandboxes/%7B%7D"), 400, "invalid_handle"],
  ["a handle in capitals", put({}, "/v1/sandboxes/BOX"), 400, "invalid_handle"],
  ["a handle that climbs", put({}, "/v1/sandboxes/%2e%2e%2fetc"), 400, "invalid_handle"],
  ["a handle of 64 letters", put({}, `/v1/sandboxes/${"a".repeat(64)}`), 400, "invalid_handle"],
  ["a body over 10 MiB", put(OVERSIZE), 413, "body_too_large"],
  ["half of a JSON document", put('{"tier":'), 400, "invalid_json"],
  ["an empty body", put(""), 400, "invalid_json"],
  ["no UTF-8", { ...put(""), body: new Uint8Array([0x22, 0xff, 0x22]) }, 400, "invalid_json"],
  ["a list in the place of an object", put([]), 400, "invalid_request"],
  ["no content type", { ...put({}), headers: {} }, 415, "unsupported_media_type"],
  [
    "a form",
    { ...put("tier=2"), headers: { "content-type": "application/x-www-form-urlencoded" } },
    415,
    "unsupported_media_type",
  ],
  [
    "text",
    { ...put({}), headers: { "content-type": "text/plain" } },
    415,
    "unsupported_media_type",
  ],
  ["an unknown run", get("/v1/runs/run_nowhere"), 404, "run_not_found"],
  ["events of an unknown run", get("/v1/runs/run_nowhere/events?attempt=1"), 404, "run_not_found"],
  [
    "an answer to an unknown run",
    post("/v1/runs/run_nowhere/input", { attempt: 1, text: "y" }),
    404,
    "run_not_found",
  ],
  [
    "an ack for an unknown run",
    post("/v1/runs/run_nowhere/ack", { attempt: 1, seq: 1, chain: "0".repeat(64) }),
    404,
    "run_not_found",
  ],
  ["an unknown harness", dispatch({ harness: "nethack" }), 400, "unknown_harness"],
  ["an empty harness", dispatch({ harness: "" }), 400, "invalid_request"],
  ["a provider that nobody knows", put({ provider: "lxc" }), 400, "invalid_request"],
  ["a provider that is not here", put({ provider: "virtualbox" }), 409, "capability_missing"],
  [
    "a run on a provider that is not here",
    dispatch({ sandbox: { provider: "virtualbox" } }),
    409,
    "capability_missing",
  ],
  ["tier 4", put({ tier: 4 }), 409, "policy_denied"],
  ["a run of tier 4", dispatch({ sandbox: { tier: 4 } }), 409, "policy_denied"],
  [
    "a workspace to write on the host",
    dispatch({ sandbox: { workspace: { mode: "read_write", path: "/home" } } }),
    409,
    "policy_denied",
  ],
  ["an unknown sandbox", get("/v1/sandboxes/nobody"), 404, "sandbox_not_found"],
  ["a port that is none", get("/v1/sandboxes/box-1/ports/70000/"), 400, "invalid_request"],
  ["an unknown path", get("/v2/anything"), 404, "not_found"],
  ["a wrong method", { method: "PATCH", path: "/v1/status" }, 405, "method_not_allowed"],
];

/** How each request lies, and the code that it gets; none of them reaches a route. */
const FORGED: [string, (wire: Wire) => WireRequest, string][] = [
  ["unsigned", () => put({}), "signature_missing"],
  [
    "forged by another key",
    (w) => w.sign(put({}), { key: new Uint8Array(32).fill(7) }),
    "signature_invalid",
  ],
  [
    "signed an hour ago",
    (w) => w.sign(STATUS, { now: Date.now() - 3_600_000 }),
    "signature_expired",
  ],
  [
    "signed an hour ahead",
    (w) => w.sign(STATUS, { now: Date.now() + 3_600_000 }),
    "signature_expired",
  ],
  ["signed for 61 s", (w) => w.sign(STATUS, { expiresInMs: 61_000 }), "signature_invalid"],
  [
    "of another link, by its own key",
    (w) => w.sign(STATUS, { linkId: "link_other", key: new Uint8Array(32).fill(9) }),
    "wrong_link",
  ],
  ["of another link, by this key", (w) => w.sign(STATUS, { linkId: "link_other" }), "wrong_link"],
  ["of the epoch before", (w) => w.sign(STATUS, { epoch: w.session().epoch - 1 }), "wrong_epoch"],
  ["of the epoch to come", (w) => w.sign(STATUS, { epoch: w.session().epoch + 1 }), "wrong_epoch"],
  ["with another body", (w) => ({ ...w.sign(put({})), body: '{"tier":2}' }), "digest_mismatch"],
  [
    "with a cut body",
    (w) => ({ ...w.sign(put({ tier: 2 })), body: '{"tier":' }),
    "digest_mismatch",
  ],
  [
    "with another query",
    (w) => ({ ...w.sign(get("/v1/runs?a=1")), path: "/v1/runs?a=2" }),
    "signature_invalid",
  ],
  [
    "with a query that was not there",
    (w) => ({ ...w.sign(STATUS), path: "/v1/status?a" }),
    "signature_invalid",
  ],
  ["for another path", (w) => ({ ...w.sign(STATUS), path: "/v1/runs" }), "signature_invalid"],
  [
    "for another method",
    (w) => ({ ...w.sign(get("/v1/sandboxes/box-1")), method: "DELETE" }),
    "signature_invalid",
  ],
  [
    "with its digest left out",
    (w) => without(w.sign(put({})), "content-digest"),
    "signature_invalid",
  ],
  [
    "as a stream where none is taken",
    (w) => w.sign(put({}), { body: "stream" }),
    "signature_invalid",
  ],
];

function without(request: WireRequest, name: string): WireRequest {
  const headers = Object.entries(request.headers ?? {}).filter(([field]) => field !== name);
  return { ...request, headers: Object.fromEntries(headers) };
}

const PROBLEM = {
  type: expect.stringMatching(/^urn:deco-link:error:/),
  title: expect.stringMatching(/./),
  detail: expect.stringMatching(/./),
  fix: expect.stringMatching(/./),
};

describe("bad input, through the real tunnel to a real daemon", () => {
  let wire: Wire;

  beforeAll(async () => {
    wire = await startWire();
  }, 60_000);
  afterAll(() => wire?.[Symbol.asyncDispose]());

  test.each(SIGNED)(
    "%s is a typed, signed refusal with its fix",
    async (_what, request, status, code) => {
      const signed = wire.sign(request);
      const answer = await wire.send(signed);
      expect(answer).toMatchObject({ status, type: "application/problem+json" });
      expect(answer.json).toMatchObject({ ...PROBLEM, status, code });
      checkAnswer(wire.session().key, signed, answer);
    },
  );

  test.each(FORGED)("a request %s is a typed 401", async (_how, make, code) => {
    const answer = await wire.send(make(wire));
    expect(answer).toMatchObject({ status: 401, type: "application/problem+json" });
    expect(answer.json).toMatchObject({ ...PROBLEM, status: 401, code });
    // Only who signed rightly gets a signature back.
    expect(answer.headers.has("signature")).toBe(code === "digest_mismatch");
  });

  test("a request that comes twice is refused the second time", async () => {
    const request = wire.sign(STATUS);
    expect((await wire.send(request)).status).toBe(200);
    const again = await wire.send(request);
    expect(again.json).toMatchObject({ ...PROBLEM, status: 401, code: "nonce_replayed" });
  });

  const noDocker = !hasDocker && process.env["CI"] !== "true";
  test.skipIf(noDocker)(
    "an image that is not there is 409 with the command that gets it",
    async () => {
      const spec = { provider: "docker", image: "deco-link-test/nowhere:1" };
      const answer = await wire.call(put(spec, "/v1/sandboxes/no-image"));
      const fix = expect.stringMatching(/docker pull .*deco-link-test\/nowhere:1/);
      expect(answer.json).toMatchObject({ ...PROBLEM, status: 409, code: "image_missing", fix });
    },
  );

  test("none of this made a sandbox or a run, and the daemon is well", async () => {
    expect((await wire.call(get("/v1/sandboxes"))).json).toEqual({ sandboxes: [], errors: [] });
    expect((await wire.call(get("/v1/runs"))).json).toEqual({ runs: [] });
    expect(await wire.send(get("/healthz"))).toMatchObject({ status: 200, json: { status: "ok" } });
  });

  test.each([
    ["an unknown field", { harness: "shell", prompt: "x", root: true }, 400, "invalid_request"],
    ["an unknown harness", { harness: "nethack", prompt: "x" }, 400, "unknown_harness"],
    ["no prompt", { harness: "shell" }, 400, "invalid_request"],
    ["tier 4", { harness: "shell", prompt: "x", sandbox: { tier: 4 } }, 409, "policy_denied"],
    [
      "a provider that is not here",
      { harness: "shell", prompt: "x", sandbox: { provider: "virtualbox" } },
      409,
      "capability_missing",
    ],
  ] as [string, object, number, string][])(
    "a user who asks the hub for %s is told at once",
    async (_what, body, status, code) => {
      const { url, token } = wire;
      const answer = await call(url, { method: "POST", path: "/api/runs", token, body });
      expect(answer.body).toMatchObject({ ...PROBLEM, status, code });
      expect(answer.headers.get("content-type")).toBe("application/problem+json");
    },
  );

  test("a request that was captured before a restart of the daemon is refused after it", async () => {
    const captured = wire.sign(STATUS);
    const { epoch, key } = wire.session();
    await wire.restart();
    expect(wire.session().epoch).toBeGreaterThan(epoch);
    expect((await wire.send(captured)).json).toMatchObject({ status: 401, code: "wrong_epoch" });
    const relabelled = wire.sign(STATUS, { key });
    expect((await wire.send(relabelled)).json).toMatchObject({ code: "signature_invalid" });
    expect((await wire.call(STATUS)).status).toBe(200);
  }, 60_000);
});
