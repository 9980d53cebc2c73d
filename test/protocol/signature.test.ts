import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { DecoError, type ErrorCode } from "../../src/protocol/errors.ts";
import {
  type CheckedSignature,
  checkRequest,
  contentDigest,
  digestMatches,
  signRequest,
} from "../../src/protocol/signature.ts";

const key = new Uint8Array(32).fill(7);
const now = Date.parse("2026-11-21T01:00:00.500Z");
const target = { linkId: "link_a", epoch: 1_795_000_000_000 };
const request = { method: "POST", path: "/v1/runs", query: "?x=1", ...target };
const body = new TextEncoder().encode('{"runId":"r1"}');

interface Change {
  headers?: Record<string, string | undefined>;
  request?: Partial<typeof request>;
  now?: number;
  key?: Uint8Array;
}

function check(signed: Record<string, string>, change: Change = {}): CheckedSignature {
  const headers: Record<string, string | undefined> = { ...signed, ...change.headers };
  return checkRequest({
    key: change.key ?? key,
    ...request,
    ...change.request,
    headers: (name) => headers[name],
    now: change.now ?? now,
  });
}

function refusal(action: () => unknown): ErrorCode | undefined {
  try {
    action();
    return undefined;
  } catch (thrown) {
    if (thrown instanceof DecoError) return thrown.code;
    throw thrown;
  }
}

const signed = signRequest({ key, ...request, body, now });
const input = signed["signature-input"] ?? "";
const withInput = (from: string | RegExp, to: string) => ({
  headers: { "signature-input": input.replace(from, to) },
});

describe("a signed request", () => {
  test("passes, and tells nonce, expiry and digest", () => {
    const checked = check(signed);
    const sha256 = createHash("sha256").update(body).digest();
    expect(checked.expiresAt).toBe(Math.floor(now / 1000) * 1000 + 60_000);
    expect(checked.nonce.length).toBeGreaterThanOrEqual(22);
    expect(checked.body.type).toBe("digest");
    if (checked.body.type !== "digest") return;
    expect(digestMatches(checked.body.sha256, sha256)).toBe(true);
    expect(digestMatches(checked.body.sha256, createHash("sha256").update("x").digest())).toBe(
      false,
    );
  });

  test("covers the six components in the order of the protocol", () => {
    expect(input).toStartWith(
      'sig1=("@method" "@path" "@query" "content-digest" "deco-link-id" "deco-link-epoch");created=',
    );
  });

  test("without a body has the digest of nothing, and `?` as its query", () => {
    const empty = signRequest({ key, ...request, query: "", now });
    expect(empty["content-digest"]).toBe(contentDigest(new Uint8Array(0)));
    expect(refusal(() => check(empty, { request: { query: "" } }))).toBeUndefined();
    expect(refusal(() => check(empty, { request: { query: "?" } }))).toBeUndefined();
  });

  test("has another nonce each time", () => {
    const one = check(signRequest({ key, ...request, now }));
    const two = check(signRequest({ key, ...request, now }));
    expect(one.nonce).not.toBe(two.nonce);
  });

  test("may order its parameters as it likes, since they are signed as they stand", () => {
    const moved = input.replace(/;created=(\d+);expires=(\d+)/, ";expires=$2;created=$1");
    expect(moved).not.toBe(input);
    // Only the MAC refuses it: the form is right.
    expect(refusal(() => check(signed, { headers: { "signature-input": moved } }))).toBe(
      "signature_invalid",
    );
  });
});

describe("what was changed after signing is refused", () => {
  const changes: Record<string, [Change, ErrorCode]> = {
    method: [{ request: { method: "PUT" } }, "signature_invalid"],
    path: [{ request: { path: "/v1/runs/" } }, "signature_invalid"],
    query: [{ request: { query: "?x=2" } }, "signature_invalid"],
    "query removed": [{ request: { query: "" } }, "signature_invalid"],
    digest: [{ headers: { "content-digest": contentDigest(key) } }, "signature_invalid"],
    "digest removed": [{ headers: { "content-digest": undefined } }, "signature_invalid"],
    key: [{ key: new Uint8Array(32).fill(8) }, "signature_invalid"],
    nonce: [withInput(/nonce="./, 'nonce="_'), "signature_invalid"],
    "a line feed in a path": [{ request: { path: "/v1/runs\n" } }, "signature_invalid"],
  };
  for (const [name, [change, code]] of Object.entries(changes)) {
    test(name, () => expect(refusal(() => check(signed, change))).toBe(code));
  }
});

describe("form", () => {
  const missing: Record<string, Change> = {
    "no Signature-Input": { headers: { "signature-input": undefined } },
    "no Signature": { headers: { signature: undefined } },
    "empty Signature": { headers: { signature: " " } },
  };
  for (const [name, change] of Object.entries(missing)) {
    test(`${name} is signature_missing`, () =>
      expect(refusal(() => check(signed, change))).toBe("signature_missing"));
  }

  const mac = signed["signature"] ?? "";
  const malformed: Record<string, Change> = {
    "another label": { headers: { "signature-input": input.replace("sig1", "sig2") } },
    "two labels": { headers: { "signature-input": `${input}, sig2=()` } },
    "two labels of MACs": { headers: { signature: `${mac}, sig2=${mac.slice(5)}` } },
    "another label of the MAC": { headers: { signature: mac.replace("sig1", "sig2") } },
    "not a dictionary": { headers: { "signature-input": "((((" } },
    "an item for the list": { headers: { "signature-input": "sig1=1" } },
    "a list of numbers": { headers: { "signature-input": input.replace('"@method"', "1") } },
    "a MAC that is a string": { headers: { signature: 'sig1="abc"' } },
    "a MAC with parameters": { headers: { signature: `${mac};a=1` } },
    "a short MAC": { headers: { signature: "sig1=:AAAA:" } },
    "another tag": withInput('tag="deco-link"', 'tag="other"'),
    "no tag": withInput(';tag="deco-link"', ""),
    "another alg": withInput("hmac-sha256", "ed25519"),
    "no alg": withInput(';alg="hmac-sha256"', ""),
    "no created": withInput(/;created=\d+/, ""),
    "no expires": withInput(/;expires=\d+/, ""),
    "no nonce": withInput(/;nonce="[^"]*"/, ""),
    "no keyid": withInput(/;keyid="[^"]*"/, ""),
    "a short nonce": withInput(/nonce="[^"]*"/, 'nonce="abc"'),
    "a nonce that is a number": withInput(/nonce="[^"]*"/, "nonce=12345678901234"),
    "a date for created": withInput("created=", "created=@"),
    "an unknown parameter": withInput(";tag=", ";extra=1;tag="),
    "a component less": withInput(' "content-digest"', ""),
    "a component more": withInput(' "content-digest"', ' "content-digest" "host"'),
    "another order": withInput('"@method" "@path"', '"@path" "@method"'),
    "a component with a parameter": withInput('"content-digest"', '"content-digest";sf'),
    "a lifetime over 60 s": withInput(/expires=\d+/, `expires=${Math.floor(now / 1000) + 61}`),
    "a lifetime below 0": withInput(/expires=\d+/, `expires=${Math.floor(now / 1000) - 1}`),
  };
  for (const [name, change] of Object.entries(malformed)) {
    test(`${name} is signature_invalid`, () =>
      expect(refusal(() => check(signed, change))).toBe("signature_invalid"));
  }

  test("a parameter given twice is refused, since only one of them can be signed", () => {
    const twice = withInput(";tag=", ';keyid="other";keyid="link_a";tag=');
    expect(refusal(() => check(signed, twice))).toBe("signature_invalid");
  });

  test("no garbage throws anything but a typed refusal", () => {
    const alphabet = 'sig1=()";:, @?\\\0\n\x7féñ0a';
    let state = 42;
    const random = (below: number) => {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
      return state % below;
    };
    for (let round = 0; round < 3000; round++) {
      const at = random(input.length);
      const junk = Array.from({ length: random(6) }, () => alphabet[random(alphabet.length)]).join(
        "",
      );
      const cut = random(4);
      const garbled = input.slice(0, at) + junk + input.slice(at + cut);
      if (garbled.trim() === input) continue;
      expect(
        refusal(() => check(signed, { headers: { "signature-input": garbled } })),
      ).toBeDefined();
    }
  });
});

describe("link, epoch and time", () => {
  test("another link is wrong_link", () => {
    const other = signRequest({ key, ...request, linkId: "link_b", now });
    expect(refusal(() => check(other))).toBe("wrong_link");
    expect(refusal(() => check(signed, { headers: { "deco-link-id": "link_b" } }))).toBe(
      "wrong_link",
    );
    expect(refusal(() => check(signed, { headers: { "deco-link-id": undefined } }))).toBe(
      "wrong_link",
    );
    expect(refusal(() => check(signed, withInput("link_a", "link_b")))).toBe("wrong_link");
  });

  test("another epoch is wrong_epoch", () => {
    const other = signRequest({ key, ...request, epoch: request.epoch - 1, now });
    expect(refusal(() => check(other))).toBe("wrong_epoch");
    expect(refusal(() => check(signed, { headers: { "deco-link-epoch": undefined } }))).toBe(
      "wrong_epoch",
    );
    expect(
      refusal(() => check(signed, { headers: { "deco-link-epoch": `0${request.epoch}` } })),
    ).toBe("wrong_epoch");
  });

  const created = Math.floor(now / 1000) * 1000;
  test("is good from 30 s before it was made until it expires, and not a moment longer", () => {
    expect(refusal(() => check(signed, { now: created - 30_000 }))).toBeUndefined();
    expect(refusal(() => check(signed, { now: created - 30_001 }))).toBe("signature_expired");
    expect(refusal(() => check(signed, { now: created + 60_000 }))).toBeUndefined();
    expect(refusal(() => check(signed, { now: created + 60_001 }))).toBe("signature_expired");
  });

  test("refusals come in the order of the protocol", () => {
    const faults: [ErrorCode, Change][] = [
      ["signature_missing", { headers: { signature: undefined } }],
      ["signature_invalid", withInput('tag="deco-link"', 'tag="other"')],
      ["wrong_link", { headers: { "deco-link-id": "link_b" } }],
      ["wrong_epoch", { headers: { "deco-link-epoch": "1" } }],
      ["signature_expired", { now: created + 61_000 }],
      ["signature_invalid", { key: new Uint8Array(32) }],
    ];
    faults.forEach(([code], first) => {
      const all = faults.slice(first).reduce<Change>(
        (sum, [, change]) => ({
          ...sum,
          ...change,
          headers: { ...sum.headers, ...change.headers },
        }),
        {},
      );
      expect(refusal(() => check(signed, all))).toBe(code);
    });
  });
});
