import { createHash, timingSafeEqual } from "node:crypto";
import { readFile, unlink } from "node:fs/promises";
import type { IncomingHttpHeaders } from "node:http";
import { DecoError } from "../protocol/errors.ts";

/** Checks the bearer token of a request. */
export type Authorize = (headers: IncomingHttpHeaders) => boolean;

/**
 * Reads the token file and deletes it, so that nothing started later can read it.
 *
 * @throws usage when there is none and running without one was not allowed
 */
export async function takeToken(path: string, optional: boolean): Promise<string | undefined> {
  const text = await readFile(path, "utf8").catch(() => "");
  const token = text.trim();
  if (token === "") {
    if (optional) return undefined;
    throw new DecoError("usage", `no token in ${path}`, {
      fix: "Write one there, or set HARNESS_ALLOW_UNAUTHENTICATED=1.",
    });
  }
  await unlink(path);
  return token;
}

/** The one token that counts, which the daemon may exchange for another. */
export interface TokenCheck {
  readonly authorize: Authorize;
  /** From now on this one counts, and the one before no more. */
  readonly replace: (token: string) => void;
}

export function tokenCheck(token: string | undefined): TokenCheck {
  let check = bearerCheck(token);
  return {
    authorize: (headers) => check(headers),
    replace: (next) => {
      check = bearerCheck(next);
    },
  };
}

/** The token stands in `authorization: Bearer …`; it is compared in constant time. */
function bearerCheck(token: string | undefined): Authorize {
  if (token === undefined) return () => true;
  const expected = digest(token);
  return (headers) => {
    const given = bearer(headers.authorization);
    return given !== undefined && timingSafeEqual(digest(given), expected);
  };
}

function bearer(header: string | undefined): string | undefined {
  return /^Bearer +(\S+)$/i.exec(header ?? "")?.[1];
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
