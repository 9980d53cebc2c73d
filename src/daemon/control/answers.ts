import type { z } from "zod";
import { readAll } from "../../net/web-stream.ts";
import { DecoError } from "../../protocol/errors.ts";

/** Largest body of a request that is no stream, in bytes. */
export const MAX_BODY_BYTES = 10 * 1024 * 1024;

/** An error as `application/problem+json`. */
export function problemResponse(
  error: DecoError,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return new Response(JSON.stringify(error.toProblem()), {
    status: error.info.status,
    headers: { "content-type": "application/problem+json", ...headers },
  });
}

/**
 * Reads a JSON body through its schema.
 *
 * @throws DecoError `unsupported_media_type`, `body_too_large`, `invalid_json`, `invalid_request`
 */
export async function readJson<T>(request: Request, schema: z.ZodType<T>): Promise<T> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new DecoError("unsupported_media_type", `the content type is ${type || "absent"}`);
  }
  const body = request.body;
  const bytes = body === null ? new Uint8Array(0) : await readAll(body, MAX_BODY_BYTES);
  return parseWith(schema, parseJson(bytes), "body");
}

/** @throws DecoError `invalid_request` naming the first field that does not fit. */
export function parseWith<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = [what, ...(issue?.path ?? [])].map(String).join(".");
  throw new DecoError("invalid_request", `${where}: ${issue?.message ?? "does not fit"}`, {
    cause: parsed.error,
  });
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new DecoError("invalid_json", "the body is not JSON in UTF-8", { cause });
  }
}
