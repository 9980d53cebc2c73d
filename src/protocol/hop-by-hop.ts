/**
 * Headers of one connection, which no proxy passes on; neither what `Connection` names.
 *
 * @see RFC 9110, 7.6.1
 */
export const HOP_BY_HOP = [
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
] as const;
