/** Path and query of a request as they stood on the wire. */
export interface RawTarget {
  readonly path: string;
  /** With its `?`, or empty. */
  readonly query: string;
}

/**
 * Splits a request target without reading it: a URL parser folds dot segments and encodes what it
 * dislikes, and a signature is over the bytes that were sent (RFC 9421, 2.2.6 and 2.2.7).
 *
 * @param target - Of a request line.
 */
export function rawTarget(target: string): RawTarget {
  const start = target.indexOf("?");
  if (start === -1) return { path: target, query: "" };
  const query = target.slice(start);
  return { path: target.slice(0, start), query: query === "?" ? "" : query };
}
