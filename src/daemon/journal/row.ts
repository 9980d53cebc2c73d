import { DecoError } from "../../protocol/errors.ts";
import type { SqlRow } from "../../storage/open-db.ts";

/** An integer column. @throws DecoError `storage_failed` when the row is absent or of another kind. */
export function integer(row: SqlRow | undefined, column: string): number {
  const value = row?.[column];
  if (typeof value === "number") return value;
  if (typeof value === "bigint") return Number(value);
  throw new DecoError("storage_failed", `column ${column} holds no integer`);
}

/** A text column. @throws DecoError `storage_failed` when the row is absent or of another kind. */
export function text(row: SqlRow | undefined, column: string): string {
  const value = row?.[column];
  if (typeof value === "string") return value;
  throw new DecoError("storage_failed", `column ${column} holds no text`);
}

/** A text column that may be null. */
export function maybeText(row: SqlRow, column: string): string | undefined {
  const value = row[column];
  return typeof value === "string" ? value : undefined;
}
