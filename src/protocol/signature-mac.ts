import { serializeDictionary } from "structured-headers";
import {
  type Component,
  equalBytes,
  hmacSha256,
  type ParameterValue,
  type SignedMessage,
  signatureBase,
  signatureParams,
} from "./signature-base.ts";
import { invalid, LABEL, SIGNATURE_FIELDS, type SignatureFields } from "./signature-fields.ts";

/** The two signature fields over these components. */
export function sign(o: {
  key: Uint8Array;
  covered: readonly Component[];
  parameters: ReadonlyMap<string, ParameterValue>;
  message: SignedMessage;
}): Record<string, string> {
  const mac = hmacSha256(o.key, signatureBase(o.covered, o.parameters, o.message));
  return {
    [SIGNATURE_FIELDS.input]: `${LABEL}=${signatureParams(o.covered, o.parameters)}`,
    [SIGNATURE_FIELDS.signature]: serializeDictionary(new Map([[LABEL, [mac, new Map()]]])),
  };
}

/** @throws DecoError signature_invalid */
export function checkParameter(
  parameters: ReadonlyMap<string, ParameterValue>,
  name: string,
  expected: string,
): void {
  if (parameters.get(name) !== expected) throw invalid(`${name} must be "${expected}"`);
}

/** @throws DecoError signature_invalid */
export function checkCovered(actual: readonly Component[], expected: readonly Component[]): void {
  const same = signatureParams(actual, new Map()) === signatureParams(expected, new Map());
  if (!same) throw invalid(`covered must be ${signatureParams(expected, new Map())}`);
}

/** @throws DecoError signature_invalid */
export function checkMac(key: Uint8Array, fields: SignatureFields, message: SignedMessage): void {
  const base = buildBase(fields, message);
  if (!equalBytes(hmacSha256(key, base), fields.mac)) throw invalid("the MAC is not right");
}

function buildBase(fields: SignatureFields, message: SignedMessage): string {
  try {
    return signatureBase(fields.components, fields.parameters, message);
  } catch (cause) {
    throw invalid("a covered component is missing or malformed", cause);
  }
}
