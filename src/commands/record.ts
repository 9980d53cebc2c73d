/** An object of JSON whose fields are not known yet. */
export type JsonRecord = Readonly<Record<string, unknown>>;

export function isRecord(value: unknown): value is JsonRecord {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The object, or an empty one when it is none. */
export function asRecord(value: unknown): JsonRecord {
  return isRecord(value) ? value : {};
}

/** The objects of a list, whether it comes bare or as the named field of an object. */
export function recordsOf(value: unknown, name: string): JsonRecord[] {
  const list = Array.isArray(value) ? value : asRecord(value)[name];
  return Array.isArray(list) ? list.filter(isRecord) : [];
}

/** A field as text; empty when it is no string, number or boolean. */
export function textOf(value: unknown): string {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? String(value)
    : "";
}
