import { describe, expect, test } from "bun:test";
import { SignJWT } from "jose";
import { DecoError } from "../../src/protocol/errors.ts";
import {
  deriveSigningKey,
  fromBase64Url,
  parseSigningKey,
  toBase64Url,
} from "../../src/protocol/keys.ts";
import { mintLinkSecret, readLinkSecret } from "../../src/protocol/link-secret.ts";
import { mintUserToken, readUserToken } from "../../src/protocol/user-token.ts";

const key = new Uint8Array(32).fill(3);
const keys = new Map([
  ["k1", key],
  ["k2", new Uint8Array(32).fill(4)],
]);
const now = 1_795_222_800_000;
const link = { user: "ann", linkId: "lnk_1", epoch: 1_795_222_800_123, jti: "j1" };
const minted = { key, kid: "k1", ...link, expiresAt: now + 60_000, now };

async function codeOf(action: Promise<unknown>): Promise<string> {
  return action.then(
    () => "ok",
    (thrown: unknown) => (thrown instanceof DecoError ? thrown.code : String(thrown)),
  );
}

const make = (typ: string, aud: string): Promise<string> =>
  new SignJWT({ link: "lnk_1", epoch: 1 })
    .setProtectedHeader({ alg: "HS256", typ, kid: "k1" })
    .setAudience(aud)
    .setSubject("ann")
    .setJti("j")
    .setExpirationTime(now / 1000 + 60)
    .sign(key);

describe("a link secret", () => {
  test("says user, link, epoch, jti, kid and expiry", async () => {
    const token = await mintLinkSecret(minted);
    const read = await readLinkSecret({ token, keys, now });
    expect(read).toEqual({ ...link, kid: "k1", exp: now / 1000 + 60 });
  });

  test("ends at its expiry", async () => {
    const token = await mintLinkSecret(minted);
    expect(await codeOf(readLinkSecret({ token, keys, now: now + 59_000 }))).toBe("ok");
    expect(await codeOf(readLinkSecret({ token, keys, now: now + 61_000 }))).toBe("secret_expired");
  });

  test("of another key, an unknown kid, or changed, is bad_secret", async () => {
    const token = await mintLinkSecret(minted);
    const [head = "", payload = "", mac = ""] = token.split(".");
    const claims = Buffer.from(payload, "base64url").toString().replace("lnk_1", "lnk_2");
    const forged = [head, Buffer.from(claims).toString("base64url"), mac].join(".");
    const none = Buffer.from('{"alg":"none","typ":"deco-link+jwt","kid":"k1"}').toString(
      "base64url",
    );
    const bad = [
      "",
      "x.y.z",
      forged,
      `${none}.${payload}.`,
      await mintLinkSecret({ ...minted, kid: "k2" }),
      await mintLinkSecret({ ...minted, kid: "k3" }),
      await mintLinkSecret({ ...minted, epoch: 0 }),
    ];
    for (const one of bad) {
      expect(await codeOf(readLinkSecret({ token: one, keys, now }))).toBe("bad_secret");
    }
  });
});

describe("each kind of token is refused in the place of the other", () => {
  test("a user token is no link secret, a link secret no user token", async () => {
    const user = await mintUserToken({ key, kid: "k1", user: "ann", expiresAt: now + 60_000, now });
    const secret = await mintLinkSecret(minted);
    expect(await codeOf(readLinkSecret({ token: user, keys, now }))).toBe("bad_secret");
    expect(await codeOf(readUserToken({ token: secret, keys, now }))).toBe("unauthorized");
  });

  test("neither typ nor aud alone is enough", async () => {
    const crossed = [await make("deco-link+jwt", "deco:user"), await make("JWT", "deco:link")];
    for (const token of crossed) {
      expect(await codeOf(readLinkSecret({ token, keys, now }))).toBe("bad_secret");
      expect(await codeOf(readUserToken({ token, keys, now }))).toBe("unauthorized");
    }
  });
});

describe("a user token", () => {
  test("says its user until it expires", async () => {
    const token = await mintUserToken({
      key,
      kid: "k1",
      user: "ann",
      jti: "j",
      expiresAt: now + 60_000,
      now,
    });
    expect(await readUserToken({ token, keys, now })).toEqual({
      user: "ann",
      jti: "j",
      exp: now / 1000 + 60,
    });
    expect(await codeOf(readUserToken({ token, keys, now: now + 61_000 }))).toBe("unauthorized");
  });
});

describe("signing keys", () => {
  test("differ by link, epoch and jti, and are the same for the same", () => {
    const base = { masterKey: key, jti: "j", linkId: "l", epoch: 1 };
    const one = toBase64Url(deriveSigningKey(base));
    expect(toBase64Url(deriveSigningKey(base))).toBe(one);
    for (const change of [
      { jti: "k" },
      { linkId: "m" },
      { epoch: 2 },
      { masterKey: new Uint8Array(32) },
    ]) {
      expect(toBase64Url(deriveSigningKey({ ...base, ...change }))).not.toBe(one);
    }
    expect(parseSigningKey(one)).toEqual(deriveSigningKey(base));
  });

  test("are 32 bytes of strict base64url", () => {
    for (const bad of [
      "",
      "AAAA",
      "=".repeat(43),
      `${"A".repeat(43)}=`,
      `${"A".repeat(42)}+`,
      `${"A".repeat(42)}B`,
    ]) {
      expect(() => parseSigningKey(bad)).toThrow();
    }
    expect(fromBase64Url("_-8")).toEqual(new Uint8Array([255, 239]));
  });
});
