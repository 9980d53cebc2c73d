import { DecoError, type Problem } from "../protocol/errors.ts";

/** Seconds after which a caller may try again. */
const RETRY_AFTER_S: Readonly<Record<number, string>> = { 429: "10", 503: "2" };

/** The one form of every error that leaves the hub (RFC 9457), with the headers of its status. */
export function problemResponse(
  error: DecoError,
  more: Readonly<Record<string, string>> = {},
): Response {
  const problem: Problem = error.toProblem();
  return new Response(JSON.stringify(problem), {
    status: problem.status,
    headers: { ...problemHeaders(error), ...more },
  });
}

export function problemHeaders(error: DecoError): Record<string, string> {
  const { status } = error.info;
  const retryAfter = RETRY_AFTER_S[status];
  return {
    "content-type": "application/problem+json",
    "cache-control": "no-store",
    ...(retryAfter === undefined ? {} : { "retry-after": retryAfter }),
    ...(error.code === "unauthorized" ? { "www-authenticate": 'Bearer realm="deco-link"' } : {}),
    ...(error.code === "upgrade_required" ? { upgrade: "deco-link/1", connection: "upgrade" } : {}),
  };
}
