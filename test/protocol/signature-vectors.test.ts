import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createSigner, createVerifier, httpbis } from "http-message-signatures";
import { z } from "zod";
import { CHAIN_START, nextChain } from "../../src/protocol/chain.ts";
import { deriveSigningKey, toBase64Url } from "../../src/protocol/keys.ts";
import {
  checkRequest,
  checkResponse,
  signRequest,
  signResponse,
} from "../../src/protocol/signature.ts";
import { equalBytes, hmacSha256, signatureBase } from "../../src/protocol/signature-base.ts";

const Vectors = z.object({
  key: z.string(),
  linkId: z.string(),
  epoch: z.number(),
  now: z.number(),
  requests: z.array(
    z.object({
      name: z.string(),
      method: z.string(),
      path: z.string(),
      query: z.string(),
      body: z.string().nullable(),
      nonce: z.string(),
      headers: z.record(z.string(), z.string()),
    }),
  ),
  response: z.object({
    status: z.number(),
    body: z.string(),
    requestSignature: z.string(),
    headers: z.record(z.string(), z.string()),
  }),
  signingKey: z.object({
    masterKey: z.string(),
    jti: z.string(),
    signingKey: z.string(),
  }),
  chain: z.array(z.object({ data: z.string(), chain: z.string() })),
});

const url = new URL("vectors/signature.json", import.meta.url);
const vectors = Vectors.parse(JSON.parse(readFileSync(url, "utf8")));
const key = Buffer.from(vectors.key, "base64url");
const { linkId, epoch, now } = vectors;
const utf8 = (text: string) => new TextEncoder().encode(text);

describe("RFC 9421, appendix B.2.5", () => {
  const secret = Buffer.from(
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==",
    "base64",
  );
  const fields: Record<string, string> = {
    date: "Tue, 20 Apr 2021 02:07:55 GMT",
    "content-type": "application/json",
  };

  test("our base is the RFC's, and its MAC comes out", () => {
    const base = signatureBase(
      [{ name: "date" }, { name: "@authority" }, { name: "content-type" }],
      new Map<string, string | number>([
        ["created", 1_618_884_473],
        ["keyid", "test-shared-secret"],
      ]),
      { authority: "example.com", header: (name) => fields[name] },
    );
    expect(base).toBe(
      [
        '"date": Tue, 20 Apr 2021 02:07:55 GMT',
        '"@authority": example.com',
        '"content-type": application/json',
        '"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"',
      ].join("\n"),
    );
    const expected = Buffer.from("pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=", "base64");
    expect(equalBytes(hmacSha256(secret, base), expected)).toBe(true);
  });
});

describe("the vectors of this protocol", () => {
  for (const { name, body, headers, ...request } of vectors.requests) {
    const streamed = headers["deco-body"] === "stream";
    const sent = streamed ? "stream" : body === null ? undefined : utf8(body);
    test(`${name}: signing gives these headers`, () => {
      const made = signRequest({
        key,
        linkId,
        epoch,
        ...request,
        now,
        ...(sent === undefined ? {} : { body: sent }),
      });
      expect(made).toEqual(headers);
    });

    test(`${name}: checking takes them`, () => {
      const checked = checkRequest({
        key,
        linkId,
        epoch,
        ...request,
        now,
        headers: (field) => headers[field],
      });
      expect(checked.nonce).toBe(request.nonce);
      expect(checked.body.type).toBe(streamed ? "stream" : "digest");
    });
  }

  test("response", () => {
    const { status, body, requestSignature, headers } = vectors.response;
    const bytes = utf8(body);
    expect(signResponse({ key, linkId, status, body: bytes, requestSignature, now })).toEqual(
      headers,
    );
    checkResponse({ key, status, body: bytes, requestSignature, headers: (name) => headers[name] });
  });

  test("signing key", () => {
    const { masterKey, jti, signingKey } = vectors.signingKey;
    const derived = deriveSigningKey({
      masterKey: Buffer.from(masterKey, "base64url"),
      jti,
      linkId,
      epoch,
    });
    expect(toBase64Url(derived)).toBe(signingKey);
  });

  test("chain", () => {
    let chain = CHAIN_START;
    for (const step of vectors.chain) {
      chain = nextChain(chain, step.data);
      expect(chain).toBe(step.chain);
    }
  });
});

describe("an independent implementation of RFC 9421", () => {
  const request = { method: "POST", path: "/v1/runs/a%20b", query: "?x=1&y=%2F" };
  const href = `http://link.invalid${request.path}${request.query}`;
  const body = utf8('{"ü":1}');
  const signer = createSigner(key, "hmac-sha256", linkId);
  const verifier = createVerifier(key, "hmac-sha256");

  test("takes what we signed", async () => {
    const headers = signRequest({ key, linkId, epoch, ...request, body, now: Date.now() });
    const verified = await httpbis.verifyMessage(
      {
        keyLookup: async () => ({ verify: verifier }),
        requiredParams: ["nonce", "tag", "expires"],
      },
      { method: request.method, url: href, headers },
    );
    expect(verified).toBe(true);
  });

  test("refuses it when it was changed", async () => {
    const headers = signRequest({ key, linkId, epoch, ...request, body, now: Date.now() });
    const verified = await httpbis
      .verifyMessage(
        { keyLookup: async () => ({ verify: verifier }) },
        { method: "PUT", url: href, headers },
      )
      .catch(() => false);
    expect(verified).toBe(false);
  });

  test("signs what we take", async () => {
    const ours = signRequest({ key, linkId, epoch, ...request, body, now });
    const { "signature-input": _input, signature: _signature, ...headers } = ours;
    const signed = await httpbis.signMessage(
      {
        key: signer,
        name: "sig1",
        fields: ["@method", "@path", "@query", "content-digest", "deco-link-id", "deco-link-epoch"],
        params: ["tag", "nonce", "alg", "keyid", "expires", "created"],
        paramValues: {
          created: new Date(now),
          expires: new Date(now + 30_000),
          nonce: "AAAAAAAAAAAAAAAAAAAAAA",
          tag: "deco-link",
        },
      },
      { method: request.method, url: href, headers },
    );
    const lower = new Map(Object.entries(signed.headers).map(([n, v]) => [n.toLowerCase(), v]));
    const checked = checkRequest({
      key,
      linkId,
      epoch,
      ...request,
      now,
      headers: (name) => lower.get(name)?.toString(),
    });
    expect(checked).toMatchObject({ nonce: "AAAAAAAAAAAAAAAAAAAAAA", body: { type: "digest" } });
  });

  test("signs and takes answers that are bound to their request", async () => {
    const req = { method: "POST", url: href, headers: { signature: "sig1=:AAAA:" } };
    const answer = { status: 202, headers: {} };
    const made = signResponse({
      key,
      linkId,
      status: 202,
      body,
      requestSignature: "sig1=:AAAA:",
      now,
    });
    const verified = await httpbis.verifyMessage(
      { keyLookup: async () => ({ verify: verifier }) },
      { ...answer, headers: made },
      req,
    );
    expect(verified).toBe(true);
    const signed = await httpbis.signMessage(
      {
        key: signer,
        name: "sig1",
        fields: ["@status", "content-digest", '"signature";req;key="sig1"'],
        params: ["created", "keyid", "alg"],
      },
      { ...answer, headers: { "content-digest": made["content-digest"] ?? "" } },
      req,
    );
    const lower = new Map(Object.entries(signed.headers).map(([n, v]) => [n.toLowerCase(), v]));
    checkResponse({
      key,
      status: 202,
      body,
      requestSignature: "sig1=:AAAA:",
      headers: (name) => lower.get(name)?.toString(),
    });
  });
});
