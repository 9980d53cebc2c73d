import { type Parameters, parseDictionary } from "structured-headers";
import { DecoError } from "./errors.ts";
import { type Component, type ParameterValue, signatureParams } from "./signature-base.ts";

/** The one label of protocol 1. */
export const LABEL = "sig1";
export const ALGORITHM = "hmac-sha256";
export const TAG = "deco-link";
export const SIGNATURE_FIELDS = { input: "signature-input", signature: "signature" } as const;

/** The two signature fields of a message, parsed; nothing in them is trusted yet. */
export interface SignatureFields {
  readonly components: readonly Component[];
  readonly parameters: ReadonlyMap<string, ParameterValue>;
  readonly mac: Uint8Array;
}

/**
 * Parses `Signature-Input` and `Signature`: one label, `sig1`, in each.
 *
 * @throws DecoError signature_invalid
 */
export function parseSignatureFields(input: string, signature: string): SignatureFields {
  const [items, parameters] = onlyMember(input, "Signature-Input");
  if (!Array.isArray(items)) throw invalid("Signature-Input is not a list of components");
  const components = items.map(([name, params]) => {
    if (typeof name !== "string") throw invalid("a covered component is not a string");
    return params.size === 0 ? { name } : { name, params: plain(params) };
  });
  const [mac, macParameters] = onlyMember(signature, "Signature");
  if (!(mac instanceof ArrayBuffer) || macParameters.size > 0) {
    throw invalid("Signature is not a byte sequence");
  }
  const fields = { components, parameters: plain(parameters), mac: new Uint8Array(mac) };
  // A parser drops what it reads twice: only the canonical text is what was signed.
  if (input.trim() !== `${LABEL}=${signatureParams(components, fields.parameters)}`) {
    throw invalid("Signature-Input is not in its canonical form");
  }
  return fields;
}

export function invalid(detail: string, cause?: unknown): DecoError {
  return new DecoError("signature_invalid", detail, cause === undefined ? {} : { cause });
}

function onlyMember(field: string, name: string) {
  const dictionary = parse(field, name);
  const member = dictionary.get(LABEL);
  if (member === undefined || dictionary.size !== 1) {
    throw invalid(`${name} must have the label ${LABEL} and no other`);
  }
  return member;
}

function parse(field: string, name: string) {
  try {
    return parseDictionary(field);
  } catch (cause) {
    throw invalid(`${name} is malformed`, cause);
  }
}

function plain(parameters: Parameters): Map<string, ParameterValue> {
  return new Map(
    [...parameters].map(([name, value]: [string, unknown]) => {
      if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
        return [name, value];
      }
      throw invalid(`the parameter ${name} is of a wrong type`);
    }),
  );
}
