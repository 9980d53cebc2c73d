import { hostname } from "node:os";
import type { DecoError } from "../protocol/errors.ts";
import { isEnded } from "../protocol/run-events.ts";
import type { Config } from "./config.ts";
import type { HeartbeatFacts } from "./heartbeat.ts";
import type { DaemonParts } from "./main-parts.ts";
import { type StatusSnapshot, statusSnapshot } from "./status.ts";
import { Alarm } from "./supervise-alarm.ts";
import type { LinkState } from "./supervise-state.ts";
import { VERSION } from "./version.ts";

/** What changes while a daemon lives, in one place; snapshots are made of it. */
export interface DaemonFacts {
  /** Set once, as soon as they are built. */
  parts: DaemonParts | undefined;
  link: LinkState;
  /** Unix ms until which it waits for its runs, once it leaves. */
  drainUntilMs: number | undefined;
  controlUrl: string | undefined;
  missedHeartbeat: DecoError | undefined;
  readonly startedAtMs: number;
  /** Rung when the next heartbeat shall go out at once. */
  readonly news: Alarm;
  readonly beat: () => void;
  readonly snapshot: () => StatusSnapshot;
  readonly heartbeat: () => HeartbeatFacts;
}

export function daemonFacts(options: {
  readonly config: Config;
  readonly hub: string;
  readonly page: string | undefined;
}): DaemonFacts {
  const { config } = options;
  const startedAtMs = Date.now();
  let lastHeartbeatAtMs: number | undefined;
  const facts: DaemonFacts = {
    parts: undefined,
    link: { type: "connecting", since: startedAtMs, attempt: 0 },
    drainUntilMs: undefined,
    controlUrl: undefined,
    missedHeartbeat: undefined,
    startedAtMs,
    news: new Alarm(),
    beat() {
      lastHeartbeatAtMs = Date.now();
      facts.missedHeartbeat = undefined;
    },
    snapshot: () => snapshotOf(facts, options, lastHeartbeatAtMs),
    heartbeat() {
      const runs = facts.parts?.journal.heartbeatRuns() ?? [];
      const active = runs.filter((run) => !isEnded(run.status)).length;
      return {
        state: facts.drainUntilMs !== undefined ? "draining" : "online",
        load: { runs: active, maxRuns: config.maxRuns },
        runs,
        capabilities: facts.parts?.offer.capabilities() ?? [],
        settled: (after) => facts.parts?.journal.settledRuns(after),
      };
    },
  };
  return facts;
}

function snapshotOf(
  facts: DaemonFacts,
  { config, hub, page }: { config: Config; hub: string; page: string | undefined },
  lastHeartbeatAtMs: number | undefined,
): StatusSnapshot {
  const { parts, link, drainUntilMs, startedAtMs, missedHeartbeat, controlUrl } = facts;
  const choice = parts?.offer.choice();
  return statusSnapshot({
    version: VERSION,
    name: config.name ?? hostname(),
    machineId: parts?.identity.machineId ?? "",
    hub,
    page,
    link,
    draining: drainUntilMs !== undefined,
    drain: drainUntilMs === undefined ? undefined : drainOf(parts, drainUntilMs),
    sandboxes: parts?.reconcile.counts(),
    warm: config.warmSandboxes === 0 ? undefined : madeAheadOf(parts),
    startedAtMs,
    lastHeartbeatAtMs,
    missedHeartbeat,
    provider: choice?.provider,
    providerReason: choice?.reason ?? "the daemon starts",
    providerFix: choice?.fix,
    capabilities: parts?.offer.capabilities() ?? [],
    runs: parts?.journal.list() ?? [],
    maxRuns: config.maxRuns,
    socket: config.paths.controlSocket,
    control: controlUrl,
    hasTunnel: config.tunnel,
  });
}

/** Undefined without a Docker engine. */
function madeAheadOf(parts: DaemonParts | undefined) {
  const works = parts?.offer
    .capabilities()
    .some(({ name, available }) => name === "docker" && available !== false);
  return works === true ? parts?.providers.get("docker")?.madeAhead?.() : undefined;
}

/** What a leaving daemon waits for: runs that wait for their turn are left to the next one. */
function drainOf(parts: DaemonParts | undefined, untilMs: number) {
  const begun = parts?.executor.active().filter((run) => run.begun) ?? [];
  return {
    until: new Date(untilMs).toISOString(),
    runs: begun.map(({ runId, attempt }) => ({ runId, attempt })),
  };
}
