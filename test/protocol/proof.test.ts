import { describe, expect, test } from "bun:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { DecoError } from "../../src/protocol/errors.ts";
import {
  type CheckProofOptions,
  checkProof,
  makeProof,
  newMachineKey,
} from "../../src/protocol/proof.ts";

const now = 1_795_222_800_500;
const audience = "https://hub.example";
const { privateJwk, publicJwk } = await newMachineKey();
const make = (change: Partial<Parameters<typeof makeProof>[0]> = {}) =>
  makeProof({ privateKey: privateJwk, audience, machineId: "m1", now, ...change });

async function check(proof: string, change: Partial<CheckProofOptions> = {}): Promise<string> {
  const options = { proof, publicKey: publicJwk, audience, machineId: "m1", now, ...change };
  try {
    await checkProof({ seenJti: () => false, ...options });
    return "ok";
  } catch (thrown) {
    if (!(thrown instanceof DecoError)) throw thrown;
    expect(thrown.extensions["now"]).toBe(new Date(options.now).toISOString());
    return thrown.code;
  }
}

describe("a proof of the laptop's key", () => {
  test("is taken, also under a further name of the hub", async () => {
    const proof = await make();
    expect(await check(proof)).toBe("ok");
    expect(await check(proof, { audience: ["http://127.0.0.1:4000", audience] })).toBe("ok");
  });

  test("is good for 60 s, and for a clock that is 30 s ahead", async () => {
    const proof = await make();
    expect(await check(proof, { now: now + 60_000 })).toBe("ok");
    expect(await check(proof, { now: now + 62_000 })).toBe("bad_proof");
    expect(await check(proof, { now: now - 29_000 })).toBe("ok");
    expect(await check(proof, { now: now - 32_000 })).toBe("bad_proof");
  });

  test("for another hub, machine or key is bad_proof", async () => {
    const proof = await make();
    const other = await newMachineKey();
    expect(await check(proof, { audience: "https://evil.example" })).toBe("bad_proof");
    expect(await check(proof, { machineId: "m2" })).toBe("bad_proof");
    expect(await check(proof, { publicKey: other.publicJwk })).toBe("bad_proof");
  });

  test("is taken once", async () => {
    const seen = new Set<string>();
    const seenJti = (jti: string) => seen.has(jti) || !seen.add(jti);
    const proof = await make();
    expect(await check(proof, { seenJti })).toBe("ok");
    expect(await check(proof, { seenJti })).toBe("bad_proof");
    expect(await check(await make(), { seenJti })).toBe("ok");
  });

  test("that is refused is not remembered as used", async () => {
    const seen: string[] = [];
    const seenJti = (jti: string) => seen.push(jti) < 0;
    await check(await make(), { machineId: "m2", seenJti });
    expect(seen).toEqual([]);
  });

  test("of garbage, without claims, or signed with a shared secret is bad_proof", async () => {
    const rsa = await generateKeyPair("RS256", { extractable: true });
    const hmac = await new SignJWT({ machineId: "m1" })
      .setProtectedHeader({ alg: "HS256" })
      .setAudience(audience)
      .setIssuedAt(now / 1000)
      .setJti("j")
      .sign(Buffer.from(publicJwk.x ?? "", "base64url"));
    for (const proof of ["", "a.b.c", hmac]) expect(await check(proof)).toBe("bad_proof");
    const publicKey = await exportJWK(rsa.publicKey);
    expect(await check(await make(), { publicKey })).toBe("bad_proof");
    expect(await check(await make(), { publicKey: { kty: "OKP", crv: "Ed25519", x: "AA" } })).toBe(
      "bad_proof",
    );
  });
});
