import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import { deriveSigningKey, toBase64Url } from "../protocol/keys.ts";
import { type LinkSecret, mintLinkSecret, readLinkSecret } from "../protocol/link-secret.ts";
import { mintUserToken, readUserToken, type UserToken } from "../protocol/user-token.ts";
import { openDataDir } from "./data-dir.ts";

const Key = z.strictObject({
  kid: z.string().min(1),
  secret: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
});
const KeyFile = z.strictObject({
  version: z.literal(1),
  /** Newest first; older ones still read and derive. */
  tokens: z.array(Key).min(1),
  masters: z.array(Key).min(1),
});

/** A sign-in code lives so long, in ms. */
export const LOGIN_CODE_TTL_MS = 60_000;

/** Everything that the hub signs with. The strings it makes are opaque to everybody else. */
export interface HubKeys {
  readonly masterKid: string;
  userToken(o: { user: string; ttlSeconds: number }): Promise<string>;
  /** @throws DecoError unauthorized */
  readUserToken(token: string): Promise<UserToken>;
  linkSecret(o: {
    user: string;
    linkId: string;
    epoch: number;
    jti: string;
    expiresAt: number;
  }): Promise<string>;
  /** @throws DecoError bad_secret, secret_expired */
  readLinkSecret(token: string): Promise<LinkSecret>;
  /** @throws DecoError bad_secret when that master key is gone. */
  signingKey(o: { kid: string; jti: string; linkId: string; epoch: number }): Uint8Array;
  /** A code for the page, good once and for 60 s. */
  loginCode(user: string): string;
  /** @throws DecoError sign_in_code_invalid; the caller still has to record `id`. */
  readLoginCode(code: string): { user: string; id: string; expiresAt: number };
}

/**
 * Opens, or makes, the keys in `dataDir/keys.json` (0600). Two processes that make them at the same
 * time end with the same keys.
 *
 * @throws DecoError storage_failed when the file is unreadable or damaged: a new key would silently
 *   sign everybody out.
 */
export function openHubKeys(dataDir: string, now: () => number = Date.now): HubKeys {
  openDataDir(dataDir);
  return keysOf(readOrMake(join(dataDir, "keys.json")), now);
}

/**
 * The keys of a hub that has some. Makes nothing: what a fresh key signs is good nowhere.
 *
 * @throws DecoError usage without keys.json, storage_failed as {@link openHubKeys}
 */
export function readHubKeys(dataDir: string, now: () => number = Date.now): HubKeys {
  const path = join(dataDir, "keys.json");
  const file = readKeys(path);
  if (file !== undefined) return keysOf(file, now);
  throw new DecoError("usage", `no hub keeps its keys in ${dataDir}: there is no ${path}`, {
    fix: "Give --data the folder that the hub was started with.",
  });
}

function keysOf(file: z.infer<typeof KeyFile>, now: () => number): HubKeys {
  const tokens = keyMap(file.tokens);
  const masters = keyMap(file.masters);
  const [tokenKid, tokenKey] = newest(tokens);
  const [masterKid] = newest(masters);
  return {
    masterKid,
    userToken: ({ user, ttlSeconds }) =>
      mintUserToken({
        key: tokenKey,
        kid: tokenKid,
        user,
        now: now(),
        expiresAt: now() + ttlSeconds * 1000,
      }),
    readUserToken: (token) => readUserToken({ token, keys: tokens, now: now() }),
    linkSecret: (o) => mintLinkSecret({ ...o, key: tokenKey, kid: tokenKid, now: now() }),
    readLinkSecret: (token) => readLinkSecret({ token, keys: tokens, now: now() }),
    signingKey: ({ kid, ...rest }) => {
      const masterKey = masters.get(kid);
      if (masterKey === undefined) throw new DecoError("bad_secret", "its master key was retired");
      return deriveSigningKey({ masterKey, ...rest });
    },
    loginCode: (user) => {
      const claims = { user, id: toBase64Url(randomBytes(16)), exp: now() + LOGIN_CODE_TTL_MS };
      const body = Buffer.from(JSON.stringify(claims)).toString("base64url");
      return `${body}.${codeMac(tokenKey, body)}`;
    },
    readLoginCode: (code) => readLoginCode(code, [...tokens.values()], now()),
  };
}

const LoginClaims = z.strictObject({
  user: z.string().min(1),
  id: z.string().min(1),
  exp: z.number(),
});

function readLoginCode(code: string, keys: readonly Uint8Array[], now: number) {
  const [body = "", mac = "", ...more] = code.split(".");
  const good = more.length === 0 && keys.some((key) => sameText(codeMac(key, body), mac));
  if (!good) throw new DecoError("sign_in_code_invalid", "not a sign-in code of this hub");
  const claims = LoginClaims.parse(JSON.parse(Buffer.from(body, "base64url").toString("utf8")));
  if (claims.exp < now) throw new DecoError("sign_in_code_invalid", "the sign-in code expired");
  return { user: claims.user, id: claims.id, expiresAt: claims.exp };
}

/** The label keeps a code from ever being read as another kind of signature by the same key. */
function codeMac(key: Uint8Array, body: string): string {
  return createHmac("sha256", key).update(`deco-link/1 sign-in\0${body}`).digest("base64url");
}

function sameText(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

function keyMap(keys: readonly z.infer<typeof Key>[]): ReadonlyMap<string, Uint8Array> {
  return new Map(
    keys.map(({ kid, secret }) => [kid, new Uint8Array(Buffer.from(secret, "base64url"))]),
  );
}

function newest(keys: ReadonlyMap<string, Uint8Array>): [string, Uint8Array] {
  for (const entry of keys) return entry;
  throw new DecoError("storage_failed", "keys.json holds no key");
}

function readOrMake(path: string): z.infer<typeof KeyFile> {
  const file = readKeys(path);
  if (file !== undefined) return file;
  makeKeys(path);
  return readOrMake(path);
}

/** Undefined when there is no such file. */
function readKeys(path: string): z.infer<typeof KeyFile> | undefined {
  try {
    return KeyFile.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (cause) {
    if (isMissing(cause)) return undefined;
    throw new DecoError("storage_failed", `${path} is not readable as the hub's keys`, { cause });
  }
}

/** Written aside, synced, then linked into place, which fails if another process was first. */
function makeKeys(path: string): void {
  const aside = `${path}.${process.pid}.${toBase64Url(randomBytes(6))}`;
  const file = openSync(aside, "wx", 0o600);
  try {
    writeSync(file, `${JSON.stringify({ version: 1, tokens: [newKey()], masters: [newKey()] })}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  try {
    linkSync(aside, path);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  } finally {
    unlinkSync(aside);
  }
}

function newKey(): z.infer<typeof Key> {
  return { kid: toBase64Url(randomBytes(6)), secret: toBase64Url(randomBytes(32)) };
}

function isMissing(error: unknown): boolean {
  // ENOTDIR: a file stands where a folder of the path should be.
  return (
    error instanceof Error && "code" in error && ["ENOENT", "ENOTDIR"].includes(String(error.code))
  );
}
