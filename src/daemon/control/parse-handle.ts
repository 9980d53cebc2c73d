import { DecoError } from "../../protocol/errors.ts";
import { Handle } from "../../protocol/messages.ts";

/** @throws invalid_handle */
export function parseHandle(text: string): string {
  const parsed = Handle.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new DecoError("invalid_handle", `not a handle: ${JSON.stringify(text)}`);
}
