import { createHmac, timingSafeEqual } from "node:crypto";
import { parseDictionary, serializeInnerList, serializeItem } from "structured-headers";

/** What parameters carry here; byte sequences, dates and the like are refused. */
export type ParameterValue = string | number | boolean;

/** One covered component: a field name in lower case or a derived one, with its parameters. */
export interface Component {
  readonly name: string;
  readonly params?: ReadonlyMap<string, ParameterValue>;
}

/** What components are taken from. A request has a method, an answer a status and its request. */
export interface SignedMessage {
  readonly method?: string;
  readonly authority?: string;
  readonly path?: string;
  /** With its `?`, as `URL.search` gives it; empty for none. */
  readonly query?: string;
  readonly status?: number;
  readonly header: (name: string) => string | undefined;
  /** The request that an answer belongs to, for components with `;req`. */
  readonly request?: SignedMessage;
}

/** Thrown for whatever can't be put into a signature base; never leaves `src/protocol`. */
class SignatureBaseError extends Error {}

/**
 * The lines that are signed, `"@signature-params"` last, without a final line feed.
 *
 * @param parameters - In the order in which they were, or will be, written.
 * @see RFC 9421, 2.5
 */
export function signatureBase(
  components: readonly Component[],
  parameters: ReadonlyMap<string, ParameterValue>,
  message: SignedMessage,
): string {
  const lines = components.map(
    (component) => `${identifier(component)}: ${componentValue(component, message)}`,
  );
  lines.push(`"@signature-params": ${signatureParams(components, parameters)}`);
  return lines.join("\n");
}

/** The inner list of `Signature-Input`: covered components and parameters. */
export function signatureParams(
  components: readonly Component[],
  parameters: ReadonlyMap<string, ParameterValue>,
): string {
  const items = components.map(
    ({ name, params }) => [name, new Map(params)] as [string, Map<string, ParameterValue>],
  );
  return serializeInnerList([items, new Map(parameters)]);
}

/** HMAC-SHA256 of a signature base (RFC 9421, 3.3.3). */
export function hmacSha256(key: Uint8Array, base: string): Uint8Array {
  return createHmac("sha256", key).update(base, "latin1").digest();
}

/** Compares in a time that depends on the length alone. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

function identifier({ name, params }: Component): string {
  return serializeItem([name, new Map(params)]);
}

function componentValue(component: Component, message: SignedMessage): string {
  const params = new Map(component.params);
  const source = params.get("req") === true ? message.request : message;
  params.delete("req");
  const key = params.get("key");
  params.delete("key");
  if (source === undefined || params.size > 0) throw new SignatureBaseError("unknown parameter");
  const value = component.name.startsWith("@")
    ? derivedValue(component.name, source)
    : fieldValue(component.name, key, source);
  // Only printable ASCII: a line feed would let one component pose as another.
  if (!/^[\x20-\x7e\t]*$/.test(value)) throw new SignatureBaseError(`${component.name}: not ASCII`);
  return value;
}

function derivedValue(name: string, message: SignedMessage): string {
  const value = derived(name, message);
  if (value === undefined) throw new SignatureBaseError(`${name}: not here`);
  return value;
}

function derived(name: string, message: SignedMessage): string | undefined {
  switch (name) {
    case "@method":
      return message.method;
    case "@authority":
      return message.authority?.toLowerCase();
    case "@path":
      return message.path === "" ? "/" : message.path;
    case "@query":
      return message.query === "" ? "?" : message.query;
    case "@status":
      return message.status === undefined ? undefined : String(message.status);
    default:
      return undefined;
  }
}

function fieldValue(name: string, key: ParameterValue | undefined, message: SignedMessage): string {
  const raw = message.header(name);
  if (raw === undefined) throw new SignatureBaseError(`${name}: not here`);
  if (key === undefined) return raw.trim();
  const member = typeof key === "string" ? parseDictionary(raw).get(key) : undefined;
  if (member === undefined) throw new SignatureBaseError(`${name}: no such member`);
  const [value, params] = member;
  return Array.isArray(value)
    ? serializeInnerList([value, params])
    : serializeItem([value, params]);
}
