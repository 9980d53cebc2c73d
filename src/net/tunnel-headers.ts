import { HOP_BY_HOP } from "../protocol/hop-by-hop.ts";

/** The tunnel answers `Expect` itself. */
const NOT_PASSED_ON: ReadonlySet<string> = new Set([...HOP_BY_HOP, "expect"]);

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
    if (!NOT_PASSED_ON.has(name) && !named.includes(name)) list.push([name, value]);
  const protocol = all.get("upgrade");
  if (upgrade && protocol !== null) list.push(["connection", "Upgrade"], ["upgrade", protocol]);
  return list;
}

export function headersFrom(list: HeaderList): Headers {
  const headers = new Headers();
  for (const [name, value] of list) headers.append(name, value);
  return headers;
}
