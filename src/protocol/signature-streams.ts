const PORT_ROUTE = /^\/v1\/sandboxes\/[a-z0-9-]{1,63}\/ports\/[0-9]{1,5}\//;
const ARCHIVE_ROUTE = /^\/v1\/sandboxes\/[a-z0-9-]{1,63}\/archive$/;
/** What a URL parser folds away: `.` and `..`, encoded or not, behind `/` or `\`. */
const DOT_SEGMENT = /[/\\](?:\.|%2e){1,2}(?:[/\\]|$)/i;

/**
 * Whether a request to this route may carry `Deco-Body: stream`: any method on
 * `/v1/sandboxes/{handle}/ports/{port}/*`, and `PUT /v1/sandboxes/{handle}/archive`.
 *
 * @param path - Without the query, as it stands in the request.
 * @see PROTOCOL.md, section "Signature"
 */
export function mayStreamBody(method: string, path: string): boolean {
  if (DOT_SEGMENT.test(path)) return false;
  return PORT_ROUTE.test(path) || (method === "PUT" && ARCHIVE_ROUTE.test(path));
}
