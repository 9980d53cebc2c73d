import { randomBytes } from "node:crypto";
import { DecoError } from "./errors.ts";
import type { Component, ParameterValue } from "./signature-base.ts";
import { contentDigest, readContentDigest } from "./signature-digest.ts";
import {
  ALGORITHM,
  invalid,
  parseSignatureFields,
  SIGNATURE_FIELDS,
  TAG,
} from "./signature-fields.ts";
import { checkCovered, checkMac, checkParameter, sign } from "./signature-mac.ts";
import { mayStreamBody } from "./signature-streams.ts";

/** Longest life of a signature, and how far `created` may lie in the future, in ms. */
const MAX_LIFETIME_MS = 60_000;
const MAX_SKEW_MS = 30_000;
/** 128 bit are 22 characters of base64url. */
const NONCE = /^[\x21-\x7e]{22,256}$/;

const REQUEST_PARAMETERS = ["created", "expires", "nonce", "keyid", "alg", "tag"] as const;

export interface SignRequestOptions {
  /** The 32 decoded bytes of `signingKey`. */
  readonly key: Uint8Array;
  readonly linkId: string;
  readonly epoch: number;
  readonly method: string;
  /** Without the query, as it goes out on the wire (percent-encoded). */
  readonly path: string;
  /** `URL.search`: with its `?`, or empty. */
  readonly query: string;
  /** Absent means an empty body; `"stream"` sends `Deco-Body: stream` on the routes that take it. */
  readonly body?: Uint8Array | "stream";
  /** The hub's time in ms. */
  readonly now: number;
  /** At most 60,000, the default. */
  readonly expiresInMs?: number;
  /** For tests; 128 random bits otherwise. */
  readonly nonce?: string;
}

/**
 * Signs a request for the control plane (RFC 9421).
 *
 * @returns The header fields to add, names in lower case.
 * @see PROTOCOL.md, section "Signature"
 */
export function signRequest(options: SignRequestOptions): Record<string, string> {
  const { key, linkId, epoch, method, path, query, body, now } = options;
  const fields: Record<string, string> = {
    ...bodyField(body),
    "deco-link-id": linkId,
    "deco-link-epoch": String(epoch),
  };
  const created = Math.floor(now / 1000);
  const parameters = new Map<string, ParameterValue>([
    ["created", created],
    ["expires", created + Math.floor((options.expiresInMs ?? MAX_LIFETIME_MS) / 1000)],
    ["nonce", options.nonce ?? randomBytes(16).toString("base64url")],
    ["keyid", linkId],
    ["alg", ALGORITHM],
    ["tag", TAG],
  ]);
  const covered = coveredByRequest(body === "stream");
  const message = { method, path, query, header: (name: string) => fields[name] };
  return { ...fields, ...sign({ key, covered, parameters, message }) };
}

export interface CheckRequestOptions {
  readonly key: Uint8Array;
  readonly linkId: string;
  readonly epoch: number;
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: (name: string) => string | undefined;
  /** The hub's time in ms. */
  readonly now: number;
}

/** A request whose MAC was right. Its body and its nonce are still to be checked. */
export interface CheckedSignature {
  readonly nonce: string;
  /** In ms, by the hub's clock. */
  readonly expiresAt: number;
  readonly body:
    | { readonly type: "digest"; readonly sha256: Uint8Array }
    | { readonly type: "stream" };
}

/**
 * Checks all but the body and the nonce, in the order of PROTOCOL.md: presence; label, parameters
 * and covered list; link and epoch; time; MAC. Hash the body after it (413 over the cap), compare
 * by `digestMatches` (`digest_mismatch`), then record the nonce (`nonce_replayed`).
 *
 * @throws DecoError signature_missing, signature_invalid, wrong_link, wrong_epoch,
 * signature_expired
 */
export function checkRequest(options: CheckRequestOptions): CheckedSignature {
  const { headers } = options;
  const input = present(headers(SIGNATURE_FIELDS.input));
  const signature = present(headers(SIGNATURE_FIELDS.signature));
  if (input === undefined || signature === undefined) {
    throw new DecoError("signature_missing", "the request has no Signature-Input and Signature");
  }
  const fields = parseSignatureFields(input, signature);
  const parameters = readRequestParameters(fields.parameters);
  const stream = isStream(options);
  checkCovered(fields.components, coveredByRequest(stream));
  checkTarget(options, parameters.keyid);
  checkTime(options.now, parameters);
  checkMac(options.key, fields, { ...options, header: headers });
  return {
    nonce: parameters.nonce,
    expiresAt: parameters.expires * 1000,
    body: stream
      ? { type: "stream" }
      : { type: "digest", sha256: readContentDigest(headers("content-digest") ?? "") },
  };
}

function coveredByRequest(stream: boolean): readonly Component[] {
  const body = stream ? "deco-body" : "content-digest";
  return ["@method", "@path", "@query", body, "deco-link-id", "deco-link-epoch"].map((name) => ({
    name,
  }));
}

function bodyField(body: Uint8Array | "stream" | undefined): Record<string, string> {
  if (body === "stream") return { "deco-body": "stream" };
  return { "content-digest": contentDigest(body ?? new Uint8Array(0)) };
}

function present(value: string | undefined): string | undefined {
  return value === undefined || value.trim() === "" ? undefined : value;
}

interface RequestParameters {
  readonly created: number;
  readonly expires: number;
  readonly nonce: string;
  readonly keyid: string;
}

function readRequestParameters(parameters: ReadonlyMap<string, ParameterValue>): RequestParameters {
  checkParameter(parameters, "tag", TAG);
  checkParameter(parameters, "alg", ALGORITHM);
  const created = parameters.get("created");
  const expires = parameters.get("expires");
  const nonce = parameters.get("nonce");
  const keyid = parameters.get("keyid");
  if (!isSeconds(created) || !isSeconds(expires)) throw invalid("created or expires is missing");
  if (typeof nonce !== "string" || !NONCE.test(nonce)) {
    throw invalid("nonce must be 22 to 256 printable characters");
  }
  if (typeof keyid !== "string") throw invalid("keyid is missing");
  // Each parameter is there by now, so one more is one too many.
  if (parameters.size !== REQUEST_PARAMETERS.length) throw invalid("unknown signature parameter");
  return { created, expires, nonce, keyid };
}

function isSeconds(value: ParameterValue | undefined): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isStream({ headers, method, path }: CheckRequestOptions): boolean {
  const value = headers("deco-body");
  if (value === undefined) return false;
  if (value.trim() !== "stream") throw invalid("Deco-Body must be stream");
  if (!mayStreamBody(method, path)) throw invalid("Deco-Body is not allowed on this route");
  return true;
}

function checkTarget({ headers, linkId, epoch }: CheckRequestOptions, keyid: string): void {
  if (headers("deco-link-id")?.trim() !== linkId || keyid !== linkId) {
    throw new DecoError("wrong_link", "the request was signed for another link");
  }
  if (headers("deco-link-epoch")?.trim() !== String(epoch)) {
    throw new DecoError("wrong_epoch", `this daemon runs in epoch ${epoch}`);
  }
}

function checkTime(now: number, { created, expires }: RequestParameters): void {
  const lifetimeInMs = (expires - created) * 1000;
  if (lifetimeInMs < 0 || lifetimeInMs > MAX_LIFETIME_MS) {
    throw invalid("a signature lives 0 to 60 s");
  }
  if (now < created * 1000 - MAX_SKEW_MS || now > expires * 1000) {
    throw new DecoError("signature_expired", "the signature is of another time", {
      extensions: { now: new Date(now).toISOString() },
    });
  }
}
