/** RFC 9110, section 7.6.1: they belong to one connection and never pass through. */
const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "expect",
]);

export type HeaderList = readonly (readonly [name: string, value: string])[];

/**
 * The headers that pass. Repeated ones stay apart (set-cookie); those that `connection` names go.
 * With `upgrade`, `connection` and `upgrade` are written anew: the tunnel carries upgrades itself.
 */
export function passingHeaders(
  headers: Headers | Readonly<Record<string, string>>,
  upgrade: boolean,
): HeaderList {
  const all = headers instanceof Headers ? headers : new Headers(headers);
  const named = (all.get("connection") ?? "").toLowerCase().split(/\s*,\s*/);
  const list: [string, string][] = [];
  for (const [name, value] of all)
    if (!HOP_BY_HOP.has(name) && !named.includes(name)) list.push([name, value]);
  const protocol = all.get("upgrade");
  if (upgrade && protocol !== null) list.push(["connection", "Upgrade"], ["upgrade", protocol]);
  return list;
}

export function headersFrom(list: HeaderList): Headers {
  const headers = new Headers();
  for (const [name, value] of list) headers.append(name, value);
  return headers;
}
