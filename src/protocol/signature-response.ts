import { DecoError } from "./errors.ts";
import type { Component, ParameterValue, SignedMessage } from "./signature-base.ts";
import { contentDigest } from "./signature-digest.ts";
import {
  ALGORITHM,
  LABEL,
  parseSignatureFields,
  SIGNATURE_FIELDS,
  TAG,
} from "./signature-fields.ts";
import { checkCovered, checkMac, checkParameter, sign } from "./signature-mac.ts";

const COVERED_BY_RESPONSE: readonly Component[] = [
  { name: "@status" },
  { name: "content-digest" },
  {
    name: "signature",
    params: new Map<string, ParameterValue>([
      ["req", true],
      ["key", LABEL],
    ]),
  },
];

export interface SignResponseOptions {
  readonly key: Uint8Array;
  readonly linkId: string;
  readonly status: number;
  readonly body: Uint8Array;
  /** The request's whole `Signature` field. */
  readonly requestSignature: string;
  readonly now: number;
}

/**
 * Signs an answer that is not a stream, bound to its request.
 *
 * @returns The header fields to add.
 * @see RFC 9421, 2.4
 */
export function signResponse(options: SignResponseOptions): Record<string, string> {
  const { key, linkId, status, body, requestSignature, now } = options;
  const fields: Record<string, string> = { "content-digest": contentDigest(body) };
  const parameters = new Map<string, ParameterValue>([
    ["created", Math.floor(now / 1000)],
    ["keyid", linkId],
    ["alg", ALGORITHM],
    ["tag", TAG],
  ]);
  const message = answer(status, (name) => fields[name], requestSignature);
  return { ...fields, ...sign({ key, covered: COVERED_BY_RESPONSE, parameters, message }) };
}

export interface CheckResponseOptions {
  readonly key: Uint8Array;
  readonly status: number;
  readonly body: Uint8Array;
  readonly headers: (name: string) => string | undefined;
  /** The whole `Signature` field of the request that this answers. */
  readonly requestSignature: string;
}

/**
 * Checks that the daemon, and nobody between, gave this answer to this request.
 *
 * @throws DecoError answer_unsigned
 */
export function checkResponse(options: CheckResponseOptions): void {
  const { key, status, body, headers, requestSignature } = options;
  try {
    const fields = parseSignatureFields(
      headers(SIGNATURE_FIELDS.input) ?? "",
      headers(SIGNATURE_FIELDS.signature) ?? "",
    );
    // A daemon may leave both out: the key and the covered list say it all.
    if (fields.parameters.has("alg")) checkParameter(fields.parameters, "alg", ALGORITHM);
    if (fields.parameters.has("tag")) checkParameter(fields.parameters, "tag", TAG);
    checkCovered(fields.components, COVERED_BY_RESPONSE);
    checkMac(key, fields, answer(status, headers, requestSignature));
  } catch (cause) {
    throw new DecoError("answer_unsigned", DecoError.from(cause).message, { cause });
  }
  // Covered and therefore there; compared as text, since we wrote it.
  if (headers("content-digest")?.trim() !== contentDigest(body)) {
    throw new DecoError("answer_unsigned", "the answer's body is not the one that was signed");
  }
}

function answer(
  status: number,
  header: SignedMessage["header"],
  requestSignature: string,
): SignedMessage {
  const request = {
    header: (name: string) => (name === SIGNATURE_FIELDS.signature ? requestSignature : undefined),
  };
  return { status, header, request };
}
