import { createHash } from "node:crypto";
import { parseDictionary } from "structured-headers";
import { equalBytes } from "./signature-base.ts";

/** `Content-Digest` of some bytes: `sha-256=:…:` (RFC 9530). */
export function contentDigest(bytes: Uint8Array): string {
  return `sha-256=:${createHash("sha256").update(bytes).digest("base64")}:`;
}

/** Whether a body's SHA-256 is the one that was signed; in constant time. */
export function digestMatches(expected: Uint8Array, actual: Uint8Array): boolean {
  return expected.length === 32 && equalBytes(expected, actual);
}

/**
 * The sha-256 member of a `Content-Digest` field. Other algorithms beside it are ignored.
 *
 * @returns 32 bytes, or none at all (which matches nothing) when it is absent or malformed.
 */
export function readContentDigest(field: string): Uint8Array {
  const none = new Uint8Array(0);
  try {
    const value = parseDictionary(field).get("sha-256")?.[0];
    if (!(value instanceof ArrayBuffer) || value.byteLength !== 32) return none;
    return new Uint8Array(value);
  } catch {
    return none;
  }
}
