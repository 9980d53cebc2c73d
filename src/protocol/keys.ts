import { hkdfSync } from "node:crypto";
import { DecoError } from "./errors.ts";

const INFO = "deco-link/1 signing";
const KEY_BYTES = 32;

export interface SigningKeyOptions {
  /** The hub's master key of the registration's `kid`; at least 32 bytes. */
  readonly masterKey: Uint8Array;
  /** The link secret's `jti`. */
  readonly jti: string;
  readonly linkId: string;
  readonly epoch: number;
}

/**
 * The key of one link's epoch: HKDF-SHA256(master key, salt `jti`,
 * info `deco-link/1 signing` 00 linkId 00 epoch in decimal digits).
 *
 * @returns 32 bytes.
 * @see PROTOCOL.md, section "Signature"; RFC 5869
 */
export function deriveSigningKey(options: SigningKeyOptions): Uint8Array {
  const { masterKey, jti, linkId, epoch } = options;
  const info = Buffer.from(`${INFO}\0${linkId}\0${epoch}`, "utf8");
  return new Uint8Array(hkdfSync("sha256", masterKey, Buffer.from(jti, "utf8"), info, KEY_BYTES));
}

export function toBase64Url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url");
}

/**
 * Strict: no padding, no other alphabet, no stray bits.
 *
 * @throws DecoError invalid_request
 */
export function fromBase64Url(text: string): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(text, "base64url"));
  if (toBase64Url(bytes) !== text) throw new DecoError("invalid_request", "not base64url");
  return bytes;
}

/**
 * Decodes `signingKey` of a registration's answer.
 *
 * @throws DecoError invalid_request when it is not 32 bytes of base64url.
 */
export function parseSigningKey(text: string): Uint8Array {
  const key = fromBase64Url(text);
  if (key.length !== KEY_BYTES) throw new DecoError("invalid_request", "not a 32-byte key");
  return key;
}
