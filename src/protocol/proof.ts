import { randomUUID } from "node:crypto";
import { exportJWK, generateKeyPair, importJWK, type JWK, jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { DecoError } from "./errors.ts";

/** How old a proof may be by the hub's clock, and how far ahead of it, in ms. */
const MAX_PROOF_AGE_MS = 60_000;
const MAX_AHEAD_MS = 30_000;

const Claims = z.looseObject({
  aud: z.string(),
  machineId: z.string(),
  iat: z.number(),
  jti: z.string().min(1).max(255),
});

/** A fresh Ed25519 key for a laptop. */
export async function newMachineKey(): Promise<{ privateJwk: JWK; publicJwk: JWK }> {
  const pair = await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true });
  const [privateJwk, publicJwk] = await Promise.all([
    exportJWK(pair.privateKey),
    exportJWK(pair.publicKey),
  ]);
  return { privateJwk, publicJwk };
}

/**
 * Proof that the laptop holds its key: a compact JWS (EdDSA).
 *
 * @param o.audience - The origin that is dialled, as `URL.origin`.
 * @param o.now - In ms; the hub's time where it is known.
 * @see PROTOCOL.md, section "Registration"
 */
export async function makeProof(o: {
  privateKey: JWK;
  audience: string;
  machineId: string;
  now: number;
}): Promise<string> {
  return new SignJWT({ machineId: o.machineId })
    .setProtectedHeader({ alg: "EdDSA" })
    .setAudience(o.audience)
    .setIssuedAt(Math.floor(o.now / 1000))
    .setJti(randomUUID())
    .sign(await importJWK(o.privateKey, "EdDSA"));
}

export interface CheckProofOptions {
  readonly proof: string;
  /** The public JWK of the registration; its kind is checked here. */
  readonly publicKey: JWK;
  /** The origins under which this hub is dialled. */
  readonly audience: string | readonly string[];
  readonly machineId: string;
  /** The hub's time in ms. */
  readonly now: number;
  /** Says whether a `jti` was used before, and remembers it until then; called last. */
  readonly seenJti: (jti: string, expiresAtMs: number) => boolean;
}

/**
 * @throws DecoError bad_proof, always with `now` (RFC 3339), so that a wrong clock may retry once.
 */
export async function checkProof(options: CheckProofOptions): Promise<void> {
  const refuse = (detail: string, cause?: unknown) =>
    new DecoError("bad_proof", detail, {
      extensions: { now: new Date(options.now).toISOString() },
      ...(cause === undefined ? {} : { cause }),
    });
  const claims = await verify(options).catch((cause: unknown) => {
    throw refuse("the proof is not signed by this key", cause);
  });
  const audiences = [options.audience].flat();
  if (!audiences.includes(claims.aud)) throw refuse("the proof is for another hub");
  if (claims.machineId !== options.machineId) throw refuse("the proof is of another machine");
  const ageMs = options.now - claims.iat * 1000;
  if (ageMs > MAX_PROOF_AGE_MS + 999) throw refuse("the proof is over 60 s old");
  if (ageMs < -MAX_AHEAD_MS) throw refuse("the proof is from the future");
  const goneAt = claims.iat * 1000 + MAX_PROOF_AGE_MS + 1000;
  if (options.seenJti(claims.jti, goneAt)) throw refuse("the proof was used before");
}

async function verify({ proof, publicKey, now }: CheckProofOptions) {
  const { kty, crv, x } = publicKey;
  if (kty !== "OKP" || crv !== "Ed25519" || typeof x !== "string") {
    throw new DecoError("bad_proof", "not an Ed25519 key");
  }
  const key = await importJWK({ kty, crv, x }, "EdDSA");
  const algorithms = ["EdDSA", "Ed25519"];
  // `nbf` and `exp`, which nobody has to send, are held against the hub's clock.
  const verified = await jwtVerify(proof, key, { algorithms, currentDate: new Date(now) });
  return Claims.parse(verified.payload);
}
