import { randomUUID } from "node:crypto";
import { jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { DecoError } from "./errors.ts";
import { type HubKeys, keyOf } from "./link-secret.ts";

const TYPE = "JWT";
const AUDIENCE = "deco:user";

export interface MintUserTokenOptions {
  readonly key: Uint8Array;
  readonly kid: string;
  readonly user: string;
  /** In ms. */
  readonly expiresAt: number;
  /** In ms. */
  readonly now: number;
  /** Random when absent. */
  readonly jti?: string;
}

export interface UserToken {
  readonly user: string;
  readonly jti: string;
  /** Unix time in seconds. */
  readonly exp: number;
}

/** A user's bearer token, signed by the hub's own key (HS256). */
export async function mintUserToken(options: MintUserTokenOptions): Promise<string> {
  return new SignJWT()
    .setProtectedHeader({ alg: "HS256", typ: TYPE, kid: options.kid })
    .setAudience(AUDIENCE)
    .setSubject(options.user)
    .setIssuedAt(Math.floor(options.now / 1000))
    .setExpirationTime(Math.floor(options.expiresAt / 1000))
    .setJti(options.jti ?? randomUUID())
    .sign(options.key);
}

const Claims = z.looseObject({ sub: z.string().min(1), jti: z.string().min(1), exp: z.number() });

/**
 * @param o.now - The hub's time in ms.
 * @throws DecoError unauthorized, for a link secret, too
 */
export async function readUserToken(o: {
  token: string;
  keys: HubKeys;
  now: number;
}): Promise<UserToken> {
  try {
    const { payload } = await jwtVerify(o.token, keyOf(o.keys), {
      algorithms: ["HS256"],
      typ: TYPE,
      audience: AUDIENCE,
      currentDate: new Date(o.now),
    });
    const { sub, jti, exp } = Claims.parse(payload);
    return { user: sub, jti, exp };
  } catch (cause) {
    throw new DecoError("unauthorized", "not a valid user token of this hub", { cause });
  }
}
