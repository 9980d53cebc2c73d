/** Paths of the control plane and what they take; for 405, which Hono answers as 404. */
const ROUTES: readonly (readonly [RegExp, string])[] = [
  [/^\/healthz$/, "GET"],
  [/^\/v1\/status$/, "GET"],
  [/^\/v1\/sandboxes$/, "GET"],
  [/^\/v1\/sandboxes\/[^/]+$/, "GET, PUT, DELETE"],
  [/^\/v1\/sandboxes\/[^/]+\/archive$/, "GET, PUT"],
  [/^\/v1\/sandboxes\/[^/]+\/files$/, "GET"],
  [/^\/v1\/sandboxes\/[^/]+\/logs$/, "GET"],
  [/^\/v1\/sandboxes\/[^/]+\/exec$/, "POST"],
  [/^\/v1\/prune$/, "GET, POST"],
  [/^\/v1\/runs$/, "GET, POST"],
  [/^\/v1\/runs\/[^/]+$/, "GET"],
  [/^\/v1\/runs\/[^/]+\/events$/, "GET"],
  [/^\/v1\/runs\/[^/]+\/(ack|cancel|input|approve|deny)$/, "POST"],
];

/** The `Allow` field of a path that exists, else undefined. */
export function allowedMethods(path: string): string | undefined {
  return ROUTES.find(([pattern]) => pattern.test(path))?.[1];
}
