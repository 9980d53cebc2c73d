import type { Capability } from "../protocol/messages.ts";
import type { Reach } from "./reach.ts";
import type { LinkRow, Machine } from "./store/links.ts";
import type { Store } from "./store/open-store.ts";

export type PresenceStatus = "online" | "suspended" | "offline";

/** A link as users see it. */
export interface LinkView {
  readonly linkId: string;
  readonly status: PresenceStatus;
  /** What the daemon says of itself: `draining` takes no new runs. */
  readonly state: LinkRow["state"];
  /** Whether the control plane answers now; presence alone doesn't say so (LESSONS 6). */
  readonly reachable: boolean;
  readonly via: "relay" | "url";
  readonly machineId: string;
  readonly machine: Machine;
  readonly name: string;
  readonly epoch: number;
  readonly capabilities: readonly Capability[];
  readonly load: LinkRow["load"];
  readonly lastSeen: string;
  readonly registeredAt: string;
}

export interface PresenceOptions {
  readonly store: Store;
  readonly reach: Reach;
  readonly now: () => number;
  readonly ttlMs: number;
}

/** Looks at what is stored and says what it means now. */
export type Presence = ReturnType<typeof presence>;

export function presence({ store, reach, now, ttlMs }: PresenceOptions) {
  function status(link: LinkRow): PresenceStatus {
    if (link.revoked) return "offline";
    if (link.ended || now() - link.lastSeen > ttlMs) return away(link);
    if (link.state === "suspended") return "suspended";
    // Such a link is believed only after it answered, rightly signed.
    if (link.tunnelUrl !== undefined && reach.get(link.linkId) === undefined) return "offline";
    return "online";
  }

  /** A lid that was closed over a run is no end: its events are still owed. */
  function away(link: LinkRow): PresenceStatus {
    return store.runs.unsettled(link.linkId).length > 0 ? "suspended" : "offline";
  }

  function view(link: LinkRow): LinkView {
    return {
      linkId: link.linkId,
      status: status(link),
      state: link.state,
      reachable: reach.get(link.linkId) !== undefined,
      via: link.tunnelUrl === undefined ? "relay" : "url",
      machineId: link.machineId,
      machine: link.machine,
      name: link.machine.name,
      epoch: link.epoch,
      capabilities: link.capabilities,
      load: link.load,
      lastSeen: new Date(link.lastSeen).toISOString(),
      registeredAt: new Date(link.registeredAt).toISOString(),
    };
  }

  return {
    status,
    view,
    /** How many links, revoked ones left out, stand how. */
    counts: (): Record<PresenceStatus, number> => {
      const counts = { online: 0, suspended: 0, offline: 0 };
      for (const link of store.links.all()) if (!link.revoked) counts[status(link)] += 1;
      return counts;
    },
    /** A user's links, revoked ones left out: online first, then the one seen last. */
    ofUser: (user: string): LinkView[] =>
      store.links
        .ofUser(user)
        .filter((link) => !link.revoked)
        .map(view)
        .toSorted((a, b) => rank(a.status) - rank(b.status)),
  };
}

function rank(status: PresenceStatus): number {
  return ["online", "suspended", "offline"].indexOf(status);
}
