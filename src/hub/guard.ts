import { DecoError } from "../protocol/errors.ts";

/** What the hub checks before it looks at who asks: by which name, and from which page. */
export interface Guard {
  /** @throws DecoError misdirected_request for a name that is not ours (DNS rebinding). */
  checkHost(host: string | undefined): void;
  /**
   * For requests that a browser makes with a session: from our own page, and JSON where they change
   * something. A plain GET of our own page has no Origin; a foreign one is never let through.
   *
   * @throws DecoError origin_refused, unsupported_media_type
   */
  checkPage(request: Pick<Request, "method" | "headers">): void;
  /** The origins under which a request with this Host may have been dialled. */
  origins(host: string | undefined): string[];
}

const OWN_NAMES: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);
const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD"]);

export function guard(publicUrl: string | undefined): Guard {
  const ownOrigin = publicUrl === undefined ? undefined : new URL(publicUrl);
  const names = ownOrigin === undefined ? OWN_NAMES : new Set([...OWN_NAMES, ownOrigin.hostname]);
  const origins = (host: string | undefined) => [
    ...(host === undefined
      ? []
      : [`http://${host.toLowerCase()}`, `https://${host.toLowerCase()}`]),
    ...(ownOrigin === undefined ? [] : [ownOrigin.origin]),
  ];
  return {
    origins,
    checkHost(host) {
      const name = hostName(host);
      if (name !== undefined && names.has(name)) return;
      throw new DecoError("misdirected_request", "this hub does not answer to that Host");
    },
    checkPage({ method, headers }) {
      const origin = headers.get("origin");
      // We speak http: an https page of this Host is ours only as the public URL.
      const own =
        origin !== null &&
        (origin === `http://${dialled(headers)}` || origin === ownOrigin?.origin);
      if (SAFE.has(method)) {
        const site = headers.get("sec-fetch-site");
        const foreign = site !== null && site !== "same-origin" && site !== "none";
        if (foreign || (origin !== null && !own)) throw refused();
        return;
      }
      if (!own) throw refused();
      if (!isJson(headers.get("content-type"))) {
        throw new DecoError("unsupported_media_type", "a page must send application/json");
      }
    },
  };
}

function dialled(headers: Headers): string | undefined {
  return headers.get("host")?.toLowerCase();
}

export function isJson(contentType: string | null): boolean {
  return /^application\/json\s*(;|$)/i.test(contentType ?? "");
}

function refused(): DecoError {
  return new DecoError("origin_refused", "the request came from another page");
}

/** `Host` without its port, lower case; undefined when it is no host. */
function hostName(host: string | undefined): string | undefined {
  return /^(\[[0-9a-f:]+\]|[^:[\]/\\@?#\s]+)(:[0-9]{1,5})?$/i.exec(host ?? "")?.[1]?.toLowerCase();
}
