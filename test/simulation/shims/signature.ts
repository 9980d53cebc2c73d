// Stands for src/protocol/signature.ts in most seeds: the same checks in the same order, but the
// "MAC" is a comparison of keys, which is cheaper. Every 16th seed signs by RFC 9421.
import { createHash } from "node:crypto";
import { DecoError } from "../../../src/protocol/errors.ts";
import * as real from "../../../src/protocol/signature.ts";
import { theWorld } from "../core/current.ts";

export const { contentDigest, digestMatches, mayStreamBody } = real;

type RequestOptions = Parameters<typeof real.signRequest>[0];

export function signRequest(o: RequestOptions): Record<string, string> {
  if (theWorld().realSignatures) return real.signRequest(o);
  const { key, linkId, epoch, body, now } = o;
  const digest = hash(body instanceof Uint8Array ? body : new Uint8Array());
  const nonce = theWorld().random.next().toString(36);
  return {
    "deco-link-id": linkId,
    "deco-link-epoch": String(epoch),
    signature: [name(key), o.method, o.path, o.query, digest, now, nonce].join(" "),
  };
}

export function checkRequest(
  o: Parameters<typeof real.checkRequest>[0],
): ReturnType<typeof real.checkRequest> {
  if (theWorld().realSignatures) return real.checkRequest(o);
  const { headers } = o;
  const signature = headers("signature");
  if (signature === undefined) throw new DecoError("signature_missing", "no signature");
  if (headers("deco-link-id") !== o.linkId) throw new DecoError("wrong_link", "another link");
  if (headers("deco-link-epoch") !== String(o.epoch)) {
    throw new DecoError("wrong_epoch", "another epoch");
  }
  const [key, method, path, query, digest = "", now, nonce = ""] = signature.split(" ");
  const created = Number(now);
  if (o.now < created - 30_000 || o.now > created + 60_000) {
    throw new DecoError("signature_expired", "too old, or from the future");
  }
  if (key !== name(o.key) || method !== o.method || path !== o.path || query !== o.query) {
    throw new DecoError("signature_invalid", "signed by another key, or for something else");
  }
  const sha256 = new Uint8Array(Buffer.from(digest, "hex"));
  return { nonce, expiresAt: created + 60_000, body: { type: "digest", sha256 } };
}

export function signResponse(o: Parameters<typeof real.signResponse>[0]): Record<string, string> {
  if (theWorld().realSignatures) return real.signResponse(o);
  return { signature: answerName(o) };
}

export function checkResponse(o: Parameters<typeof real.checkResponse>[0]): void {
  if (theWorld().realSignatures) {
    real.checkResponse(o);
    return;
  }
  if (o.headers("signature") === answerName(o)) return;
  throw new DecoError("answer_unsigned", "the answer is not the daemon's");
}

function answerName(o: {
  readonly key: Uint8Array;
  readonly status: number;
  readonly body: Uint8Array;
  readonly requestSignature: string;
}): string {
  return [name(o.key), o.status, hash(o.body), o.requestSignature].join(" ");
}

function name(key: Uint8Array): string {
  return Buffer.from(key).toString("base64url");
}

function hash(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
