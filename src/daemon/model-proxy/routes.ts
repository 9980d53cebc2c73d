/** Which service a request is for. */
export type UpstreamName = "anthropic" | "openai";

export interface ModelRoute {
  readonly upstream: UpstreamName;
  readonly path: string;
  /** As it stands in the request, with its `?`; empty for none. */
  readonly query: string;
  /** Whether its answers use up tokens. */
  readonly metered: boolean;
}

/** The whole list of what leaves a sandbox: method, path, service, metered. */
const ROUTES = {
  "POST /v1/messages": ["anthropic", true],
  "POST /v1/messages/count_tokens": ["anthropic", false],
  "POST /v1/responses": ["openai", true],
  "POST /v1/chat/completions": ["openai", true],
} as const satisfies Record<string, readonly [UpstreamName, boolean]>;

const MAX_QUERY_CHARS = 2048;

/**
 * Finds the route of a request; undefined for anything that is not on the list. Paths are compared
 * as they stand, so nothing encoded, absolute or with `..` in it ever matches.
 *
 * @param target - The request line's target.
 * @param speaksAnthropic - Decides for `GET /v1/models`, which both services have.
 */
export function findRoute(
  method: string,
  target: string,
  speaksAnthropic: boolean,
): ModelRoute | undefined {
  const mark = target.indexOf("?");
  const path = mark < 0 ? target : target.slice(0, mark);
  const query = mark < 0 ? "" : target.slice(mark);
  if (query.length > MAX_QUERY_CHARS || !/^[\x21\x24-\x7e]*$/.test(query)) return undefined;
  const name = `${method} ${path}`;
  if (name === "GET /v1/models") {
    return { upstream: speaksAnthropic ? "anthropic" : "openai", path, query, metered: false };
  }
  if (!isListed(name)) return undefined;
  const [upstream, metered] = ROUTES[name];
  return { upstream, path, query, metered };
}

function isListed(name: string): name is keyof typeof ROUTES {
  return Object.hasOwn(ROUTES, name);
}
