/** RFC 9110, 7.6.1, and what older programs still send. */
const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);

/** Never forwarded: credentials, cookies, routing hints, and what the proxy sets itself. */
const FROM_INSIDE = new Set([
  "authorization",
  "x-api-key",
  "api-key",
  "x-goog-api-key",
  "cookie",
  "cookie2",
  "host",
  "forwarded",
  "via",
  "x-real-ip",
  "expect",
  // Usage is read from the answer, so it must come uncompressed.
  "accept-encoding",
  "x-http-method-override",
  // These choose whose account pays.
  "openai-organization",
  "openai-project",
]);
const PREFIXES_FROM_INSIDE = ["proxy-", "x-forwarded-"];

/** Never answered: cookies, and which account of the laptop's owner paid. */
const FROM_UPSTREAM = new Set([
  "set-cookie",
  "set-cookie2",
  "alt-svc",
  "proxy-authenticate",
  "proxy-authentication-info",
  "proxy-connection",
  "anthropic-organization-id",
  "openai-organization",
  "openai-project",
]);

type Fields = Iterable<readonly [string, string]>;

/** The header of a request from inside that may go to a model service. */
export function requestHeaders(
  headers: Headers,
  { withBody }: { withBody: boolean },
): Record<string, string> {
  const kept = keep(headers, headers.get("connection"), (name) => {
    if (name === "content-length") return !withBody;
    return FROM_INSIDE.has(name) || PREFIXES_FROM_INSIDE.some((prefix) => name.startsWith(prefix));
  });
  return { ...kept, "accept-encoding": "identity" };
}

/** The header of a service's answer that may go into a sandbox. */
export function answerHeaders(headers: Headers): Record<string, string> {
  return keep(headers, headers.get("connection"), (name) => FROM_UPSTREAM.has(name));
}

function keep(
  fields: Fields,
  connection: string | null,
  drop: (name: string) => boolean,
): Record<string, string> {
  const named = new Set((connection ?? "").split(",").map((name) => name.trim().toLowerCase()));
  return Object.fromEntries(
    [...fields].filter(([name]) => !HOP_BY_HOP.has(name) && !named.has(name) && !drop(name)),
  );
}
