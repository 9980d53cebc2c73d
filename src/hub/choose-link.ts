import { DecoError } from "../protocol/errors.ts";
import { neededFeatures } from "../protocol/features.ts";
import type { CreateRun } from "../protocol/messages.ts";
import type { Presence } from "./presence.ts";
import type { Reach } from "./reach.ts";
import type { LinkRow } from "./store/links.ts";
import type { Store } from "./store/open-store.ts";

export interface ChooseLinkOptions {
  readonly store: Store;
  readonly presence: Presence;
  readonly reach: Reach;
  readonly user: string;
  readonly body: CreateRun;
  /** Links that hold a sandbox of the thread: they come first. */
  readonly preferred: ReadonlySet<string>;
}

/** So many runs may wait for a link that is suspended. */
const MOST_QUEUED = 100;

/**
 * The link that shall run this: the user's, there, able, not full, and the least loaded of those.
 * When none is online, a suspended one: the run waits in the hub until it is back.
 *
 * @throws DecoError link_not_found, link_offline, capability_missing (`activeCapabilities`),
 *   isolation_unavailable (a daemon that does not know a field is not sent it), link_busy
 */
export function chooseLink(o: ChooseLinkOptions): LinkRow {
  const mine = o.store.links.ofUser(o.user).filter((link) => !link.revoked);
  const asked =
    o.body.link === undefined ? mine : mine.filter((link) => link.linkId === o.body.link);
  if (o.body.link !== undefined && asked.length === 0) {
    throw new DecoError("link_not_found", "no such link");
  }
  const online = asked.filter(
    (link) => o.presence.status(link) === "online" && link.state !== "draining",
  );
  if (online.length === 0) return queueAt(asked, o);
  const able = capable(online, o.body);
  const reachable = able.filter((link) => o.reach.get(link.linkId) !== undefined);
  if (reachable.length === 0) {
    throw new DecoError("link_offline", "the link is there, but has no tunnel at the moment");
  }
  const free = reachable.filter((link) => activeRuns(o.store, link) < maxRuns(link));
  if (free.length === 0) throw new DecoError("link_busy", "every link that could run this is full");
  return best(free, o);
}

/** A lid that was closed over a run opens again: what is asked for meanwhile need not be lost. */
function queueAt(asked: readonly LinkRow[], o: ChooseLinkOptions): LinkRow {
  const suspended = asked.filter(
    (link) => o.presence.status(link) === "suspended" && (link.ended || link.state !== "draining"),
  );
  if (suspended.length === 0) throw offline(asked);
  const waiting = capable(suspended, o.body);
  const free = waiting.filter((link) => o.store.runs.active(link.linkId) < MOST_QUEUED);
  if (free.length === 0) {
    throw new DecoError("link_busy", `${MOST_QUEUED} runs wait for a suspended link already`);
  }
  return best(free, o);
}

/** Those that offer what is needed, by what they told last. */
function capable(links: readonly LinkRow[], body: CreateRun): LinkRow[] {
  const needs = needed(body);
  const offering = links.filter((link) => needs.every((name) => offers(link, name)));
  if (offering.length === 0) throw missing(needs, links);
  return knowing(offering, body);
}

function best(links: readonly LinkRow[], { store, preferred }: ChooseLinkOptions): LinkRow {
  const cost = (link: LinkRow) =>
    (preferred.has(link.linkId) ? 0 : 1_000_000) + activeRuns(store, link) / maxRunsForRatio(link);
  const [first] = links.toSorted((a, b) => cost(a) - cost(b) || b.lastSeen - a.lastSeen);
  if (first === undefined) throw new DecoError("link_offline", "no link is online");
  return first;
}

/** `shell` needs nothing: each sandbox has a POSIX shell. */
function needed(body: CreateRun): string[] {
  const { harness, sandbox } = body;
  return [
    ...(harness === "shell" ? [] : [harness]),
    ...(sandbox?.provider === undefined ? [] : [sandbox.provider]),
  ];
}

/** Those whose daemon told the features of what is asked for. */
function knowing(links: readonly LinkRow[], { sandbox = {} }: CreateRun): LinkRow[] {
  const needs = neededFeatures(sandbox);
  const able = links.filter(({ machine }) =>
    needs.every((name) => machine.features.includes(name)),
  );
  if (able.length > 0) return able;
  const detail = `no link that is there knows ${needs.join(" and ")}`;
  throw new DecoError("isolation_unavailable", detail, {
    fix: "Update deco link on the laptop: npm i -g deco-link@latest.",
    extensions: { missingFeatures: needs },
  });
}

function offers(link: LinkRow, name: string): boolean {
  return link.capabilities.some((one) => one.name === name && one.available !== false);
}

function missing(needs: readonly string[], links: readonly LinkRow[]): DecoError {
  const active = links.flatMap(({ capabilities }) =>
    capabilities.filter(({ available }) => available !== false).map(({ name }) => name),
  );
  const lacking = needs.filter((name) => !active.includes(name));
  const reasons = links.flatMap(({ capabilities }) =>
    capabilities.flatMap(({ name, reason }) =>
      lacking.includes(name) && reason !== undefined ? [`${name}: ${reason}`] : [],
    ),
  );
  const what = lacking.length > 0 ? lacking.join(" and ") : `${needs.join(" and ")} together`;
  const why = reasons.length > 0 ? ` (${reasons.join("; ")})` : "";
  return new DecoError("capability_missing", `no link that is there offers ${what}${why}`, {
    extensions: { missing: lacking, activeCapabilities: [...new Set(active)].toSorted() },
  });
}

function offline(asked: readonly LinkRow[]): DecoError {
  if (asked.length === 0) return new DecoError("link_offline", "no link is enrolled for you");
  const draining = asked.some((link) => link.state === "draining" && !link.ended);
  return new DecoError("link_offline", draining ? "the link is draining" : "no link is online");
}

/** Ours by the hub's own count, which is newer than a heartbeat, and what else the laptop does. */
function activeRuns(store: Store, link: LinkRow): number {
  return store.runs.active(link.linkId) + link.otherRuns;
}

function maxRuns({ load }: LinkRow): number {
  return load.maxRuns ?? Number.POSITIVE_INFINITY;
}

function maxRunsForRatio(link: LinkRow): number {
  return Math.max(1, Math.min(maxRuns(link), 64));
}
