import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { DecoError } from "../../src/protocol/errors.ts";
import {
  checkRequest,
  checkResponse,
  contentDigest,
  digestMatches,
  mayStreamBody,
  signRequest,
  signResponse,
} from "../../src/protocol/signature.ts";
import { readContentDigest } from "../../src/protocol/signature-digest.ts";

const key = new Uint8Array(32).fill(7);
const now = 1_795_222_800_000;
const link = { key, linkId: "link_a", epoch: 5 };
const utf8 = (text: string) => new TextEncoder().encode(text);

function codeOf(action: () => unknown): string {
  try {
    action();
    return "ok";
  } catch (thrown) {
    return DecoError.from(thrown).code;
  }
}

describe("Deco-Body: stream", () => {
  const routes: [string, string, boolean][] = [
    ["GET", "/v1/sandboxes/box/ports/3000/", true],
    ["POST", "/v1/sandboxes/box-1/ports/3000/a/b", true],
    ["PUT", "/v1/sandboxes/box/archive", true],
    ["POST", "/v1/sandboxes/box/archive", false],
    ["PUT", "/v1/sandboxes/box/archive/", false],
    ["GET", "/v1/sandboxes/box/ports/3000", false],
    ["GET", "/v1/sandboxes/box/ports/x/", false],
    ["GET", "/v1/sandboxes/BOX/ports/1/", false],
    ["GET", "/v1/sandboxes/box/ports/1/../../../../runs", false],
    ["GET", "/v1/sandboxes/box/ports/1/%2e%2E/x", false],
    ["GET", "/v1/sandboxes/box/ports/1/..\\x", false],
    ["GET", "/v1/sandboxes/box/ports/1/.well-known/x", true],
    ["POST", "/v1/runs", false],
    ["PUT", "/v1/sandboxes/box", false],
  ];
  for (const [method, path, allowed] of routes) {
    test(`${allowed ? "may" : "may not"} come with ${method} ${path}`, () => {
      expect(mayStreamBody(method, path)).toBe(allowed);
      const request = { ...link, method, path, query: "", now };
      const headers = signRequest({ ...request, body: "stream" });
      const check = () => checkRequest({ ...request, headers: (name) => headers[name] });
      expect(codeOf(check)).toBe(allowed ? "ok" : "signature_invalid");
      if (allowed) expect(check().body).toEqual({ type: "stream" });
    });
  }

  const request = { ...link, method: "PUT", path: "/v1/sandboxes/b/archive", query: "", now };
  const check = (headers: Record<string, string | undefined>) =>
    codeOf(() => checkRequest({ ...request, headers: (name) => headers[name] }));

  test("can neither be added to a signed request nor be taken away nor have another value", () => {
    const plain = signRequest({ ...request, body: utf8("x") });
    const stream = signRequest({ ...request, body: "stream" });
    expect(check({ ...plain, "deco-body": "stream" })).toBe("signature_invalid");
    expect(check({ ...stream, "deco-body": undefined })).toBe("signature_invalid");
    expect(check({ ...stream, "deco-body": "digest" })).toBe("signature_invalid");
    expect(check({ ...plain, "deco-body": "" })).toBe("signature_invalid");
  });

  test("is no must on its routes", () => {
    expect(check(signRequest({ ...request, body: utf8("x") }))).toBe("ok");
  });
});

describe("a digest of another algorithm", () => {
  test("may stand beside sha-256; alone or malformed it matches nothing", () => {
    const digest = contentDigest(utf8("x"));
    const sha256 = createHash("sha256").update("x").digest();
    expect(digestMatches(readContentDigest(digest), sha256)).toBe(true);
    expect(digestMatches(readContentDigest(`sha-512=:AAAA:, ${digest}`), sha256)).toBe(true);
    for (const field of ["", "sha-512=:AAAA:", "sha-256=abc", "sha-256=:AAAA:", "((", "sha-256"]) {
      expect(digestMatches(readContentDigest(field), sha256)).toBe(false);
      expect(digestMatches(readContentDigest(field), new Uint8Array(0))).toBe(false);
    }
  });
});

describe("a signed answer", () => {
  const requestSignature = signRequest({ ...link, method: "GET", path: "/", query: "", now })[
    "signature"
  ];
  const body = utf8('{"status":"ok"}');
  const answer = { ...link, status: 200, body, requestSignature: requestSignature ?? "", now };
  const headers = signResponse(answer);
  const check = (change: {
    headers?: Record<string, string | undefined>;
    status?: number;
    body?: Uint8Array;
    key?: Uint8Array;
    requestSignature?: string;
  }) => {
    const all: Record<string, string | undefined> = { ...headers, ...change.headers };
    return codeOf(() => checkResponse({ ...answer, ...change, headers: (name) => all[name] }));
  };

  test("is taken as it was made", () => expect(check({})).toBe("ok"));

  const changes: Record<string, Parameters<typeof check>[0]> = {
    status: { status: 500 },
    body: { body: utf8("{}") },
    key: { key: new Uint8Array(32) },
    "request that it answers": { requestSignature: "sig1=:AAAA:" },
    "request without a signature": { requestSignature: "" },
    signature: { headers: { signature: undefined } },
    "signature input": { headers: { "signature-input": undefined } },
    garbage: { headers: { "signature-input": "sig1=((" } },
    digest: { headers: { "content-digest": undefined } },
    "covered list": {
      headers: { "signature-input": 'sig1=("@status");created=1;alg="hmac-sha256"' },
    },
    tag: {
      headers: { "signature-input": headers["signature-input"]?.replace("deco-link", "other") },
    },
  };
  for (const [name, change] of Object.entries(changes)) {
    test(`with another ${name} is answer_unsigned`, () =>
      expect(check(change)).toBe("answer_unsigned"));
  }

  test("is no request: the one can't pass for the other", () => {
    const request = { ...link, method: "GET", path: "/", query: "", now };
    const fields: Record<string, string> = {
      ...headers,
      "deco-link-id": "link_a",
      "deco-link-epoch": "5",
    };
    const check2 = () => checkRequest({ ...request, headers: (name) => fields[name] });
    expect(codeOf(check2)).toBe("signature_invalid");
  });
});
