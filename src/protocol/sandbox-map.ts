import { PROVIDERS, type ProviderName } from "./messages.ts";

/** Where one (user, branch, provider) has its sandbox. Further members are kept as they are. */
export interface SandboxEntry {
  readonly handle: string;
  readonly linkId?: string;
  /** Null where the provider opens no port. */
  readonly previewUrl?: string | null;
  readonly [member: string]: unknown;
}

/** `{[userId]: {[branch]: {[sandboxProviderKind]: entry}}}` */
export type SandboxMap = Record<string, Record<string, SandboxKinds>>;
type SandboxKinds = Partial<Record<ProviderName, SandboxEntry>>;

type Json = Readonly<Record<string, unknown>>;

/**
 * Reads any stored sandbox map, also of the old two-level form; what can't be read is left out.
 * Never throws; empty objects stay.
 *
 * @see PROTOCOL.md, section "Threads and the sandbox map"
 */
export function normalizeSandboxMap(value: unknown): SandboxMap {
  try {
    return mapMembers(asObject(value) ?? {}, readUser);
  } catch {
    // Getters and proxies may throw; JSON can't.
    return {};
  }
}

/** The map with one more entry, in the new form throughout; the old one is left as it is. */
export function setSandboxEntry(
  map: SandboxMap,
  o: { user: string; branch: string; provider: ProviderName; entry: SandboxEntry },
): SandboxMap {
  const next = mapMembers(normalizeSandboxMap(map), (branches) =>
    mapMembers(branches, (kinds): SandboxKinds => mapMembers(kinds, newForm)),
  );
  // `__proto__` as a name would set a prototype instead of a member.
  if (o.user === "__proto__" || o.branch === "__proto__") return next;
  const branches = own(next, o.user) ?? {};
  const kinds = own(branches, o.branch) ?? {};
  const entry = newForm(o.entry);
  return { ...next, [o.user]: { ...branches, [o.branch]: { ...kinds, [o.provider]: entry } } };
}

function readUser(value: unknown): Record<string, SandboxKinds> | undefined {
  const user = asObject(value);
  return user && mapMembers(user, readBranch);
}

function readBranch(value: unknown): SandboxKinds | undefined {
  const branch = asObject(value);
  if (branch === undefined) return undefined;
  if (typeof branch["vmId"] === "string") {
    const entry = readEntry(branch);
    return entry === undefined ? undefined : { [kindOf(entry["sandboxProviderKind"])]: entry };
  }
  const kinds: SandboxKinds = {};
  // Known kinds first, so that an unknown one never takes the place of a docker entry.
  const names = Object.keys(branch).toSorted((a, b) => Number(isKind(b)) - Number(isKind(a)));
  for (const name of names) {
    const entry = name === "__proto__" ? undefined : readEntry(branch[name]);
    if (entry !== undefined) kinds[kindOf(name)] ??= entry;
  }
  return kinds;
}

/** An entry has a handle, or had it as `vmId`; `runnerKind` is the old word for its kind. */
function readEntry(value: unknown): SandboxEntry | undefined {
  const entry = asObject(value);
  if (entry === undefined) return undefined;
  const { runnerKind, sandboxProviderKind, ...rest } = mapMembers(entry, (member) => member);
  const handle = [rest["handle"], rest["vmId"]].find((name) => typeof name === "string" && name);
  if (typeof handle !== "string") return undefined;
  const kind = sandboxProviderKind ?? runnerKind;
  return { ...rest, handle, ...(kind === undefined ? {} : { sandboxProviderKind: kindOf(kind) }) };
}

function newForm(entry: SandboxEntry): SandboxEntry {
  const { vmId: _old, runnerKind: _older, ...rest } = entry;
  return { ...rest, handle: entry.handle };
}

function kindOf(value: unknown): ProviderName {
  return isKind(value) ? value : "docker";
}

function isKind(value: unknown): value is ProviderName {
  return PROVIDERS.some((name) => name === value);
}

function own<T>(object: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

function asObject(value: unknown): Json | undefined {
  return isObject(value) ? value : undefined;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A copy of own members, without those that `read` gives up and without `__proto__`. */
function mapMembers<In, Out>(
  object: Readonly<Record<string, In>>,
  read: (member: In) => Out | undefined,
): Record<string, Out> {
  const result: Record<string, Out> = {};
  for (const [name, member] of Object.entries(object)) {
    if (name === "__proto__") continue;
    const out = read(member);
    if (out !== undefined) result[name] = out;
  }
  return result;
}
