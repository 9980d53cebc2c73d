import { errors, jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { DecoError } from "./errors.ts";

/** The hub's keys by `kid`, at least 32 bytes each. */
export type HubKeys = ReadonlyMap<string, Uint8Array>;

const TYPE = "deco-link+jwt";
const AUDIENCE = "deco:link";

export interface MintLinkSecretOptions {
  readonly key: Uint8Array;
  readonly kid: string;
  readonly user: string;
  readonly linkId: string;
  readonly epoch: number;
  /** In ms. */
  readonly expiresAt: number;
  readonly jti: string;
  /** In ms. */
  readonly now: number;
}

/** What a link secret says. Its epoch is still to be compared with the registry. */
export interface LinkSecret {
  readonly user: string;
  readonly linkId: string;
  readonly epoch: number;
  readonly jti: string;
  readonly kid: string;
  /** Unix time in seconds. */
  readonly exp: number;
}

/**
 * A signed secret for one epoch of one link: a compact JWS (HS256) by the hub's key.
 *
 * @see PROTOCOL.md, section "Registration"
 */
export async function mintLinkSecret(options: MintLinkSecretOptions): Promise<string> {
  return new SignJWT({ link: options.linkId, epoch: options.epoch })
    .setProtectedHeader({ alg: "HS256", typ: TYPE, kid: options.kid })
    .setAudience(AUDIENCE)
    .setSubject(options.user)
    .setIssuedAt(Math.floor(options.now / 1000))
    .setExpirationTime(Math.floor(options.expiresAt / 1000))
    .setJti(options.jti)
    .sign(options.key);
}

const Claims = z.looseObject({
  sub: z.string().min(1),
  link: z.string().min(1),
  epoch: z.int().min(1),
  jti: z.string().min(1),
  exp: z.number(),
});

/**
 * @param o.now - The hub's time in ms.
 * @throws DecoError bad_secret (a user token, too), secret_expired
 */
export async function readLinkSecret(o: {
  token: string;
  keys: HubKeys;
  now: number;
}): Promise<LinkSecret> {
  try {
    const { payload, protectedHeader } = await jwtVerify(o.token, keyOf(o.keys), {
      algorithms: ["HS256"],
      typ: TYPE,
      audience: AUDIENCE,
      currentDate: new Date(o.now),
    });
    const { sub, link, epoch, jti, exp } = Claims.parse(payload);
    return { user: sub, linkId: link, epoch, jti, kid: protectedHeader.kid ?? "", exp };
  } catch (cause) {
    if (cause instanceof errors.JWTExpired) {
      throw new DecoError("secret_expired", "the link secret expired", { cause });
    }
    throw new DecoError("bad_secret", "not a link secret of this hub", { cause });
  }
}

/** Finds the key that a token names; for jose. */
export function keyOf(keys: HubKeys): (header: { kid?: string }) => Uint8Array {
  return ({ kid }) => {
    const key = kid === undefined ? undefined : keys.get(kid);
    if (key === undefined) throw new Error("unknown kid");
    return key;
  };
}
