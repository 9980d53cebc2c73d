import type { DecoError } from "../protocol/errors.ts";
import type { Capability, ProviderName, RunState } from "../protocol/messages.ts";
import { isEnded } from "../protocol/run-events.ts";
import type { MadeAhead } from "../sandbox/provider.ts";
import type { ReconcileCounts } from "./reconcile.ts";
import type { LinkState } from "./supervise-state.ts";

/** One thing that is not as it should be, with what to do about it. */
export interface Warning {
  readonly code: string;
  readonly title: string;
  readonly text: string;
  readonly severity: "info" | "warning" | "error";
}

/** `deco status --json` and `GET /v1/status`. Times are RFC 3339. */
export interface StatusSnapshot {
  readonly version: string;
  readonly pid: number;
  readonly name: string;
  readonly machineId: string;
  readonly startedAt: string;
  /** Where the link stands; `draining` once the daemon takes no more work. */
  readonly state: LinkState["type"] | "draining";
  readonly since: string;
  readonly hub: string;
  readonly page?: string;
  readonly linkId?: string;
  readonly epoch?: number;
  readonly tunnel: "up" | "down" | "off";
  readonly lastHeartbeatAt?: string;
  readonly retryAt?: string;
  readonly error?: { readonly code: string; readonly detail: string; readonly fix: string };
  /** Provider of sandboxes that name none; absent when nothing here works. */
  readonly provider?: ProviderName;
  /** Why it is this one, or none. */
  readonly providerReason: string;
  /** What the owner can do about it, where nothing works. */
  readonly providerFix?: string;
  readonly capabilities: readonly Capability[];
  /** Once it leaves: until when it waits (RFC 3339), and for which runs. */
  readonly drain?: {
    readonly until: string;
    readonly runs: readonly { readonly runId: string; readonly attempt: number }[];
  };
  /** The last look at the sandboxes (once a minute), and what looks have done since the start. */
  readonly sandboxes?: ReconcileCounts;
  /** Sandboxes made ahead; absent where none are wanted, and without a Docker engine. */
  readonly warm?: MadeAhead;
  readonly load: { readonly runs: number; readonly maxRuns: number };
  /** Runs that are unfinished, or whose events the hub has not all acknowledged. */
  readonly runs: readonly RunState[];
  readonly socket: string;
  /** Address of the signed control plane where it listens on TCP. */
  readonly control?: string;
  readonly warnings: readonly Warning[];
}

/** The facts that a snapshot is made of; each is at hand without waiting. */
export interface StatusFacts
  extends Pick<
    StatusSnapshot,
    "version" | "name" | "machineId" | "hub" | "providerReason" | "capabilities" | "socket"
  > {
  readonly link: LinkState;
  readonly draining: boolean;
  readonly drain?: StatusSnapshot["drain"] | undefined;
  readonly sandboxes?: ReconcileCounts | undefined;
  readonly warm?: MadeAhead | undefined;
  readonly startedAtMs: number;
  readonly lastHeartbeatAtMs?: number | undefined;
  readonly missedHeartbeat?: DecoError | undefined;
  readonly page?: string | undefined;
  readonly provider?: ProviderName | undefined;
  readonly providerFix?: string | undefined;
  readonly control?: string | undefined;
  readonly hasTunnel: boolean;
  readonly runs: readonly RunState[];
  readonly maxRuns: number;
}

/** Builds the snapshot. Waits for nobody: docker, hub and harnesses may hang (LESSONS 41). */
export function statusSnapshot(facts: StatusFacts): StatusSnapshot {
  const { link, runs } = facts;
  const error = "error" in link ? link.error : undefined;
  const active = runs.filter((run) => !isEnded(run.status));
  return {
    version: facts.version,
    pid: process.pid,
    name: facts.name,
    machineId: facts.machineId,
    startedAt: rfc3339(facts.startedAtMs),
    state: facts.draining && link.type !== "stopped" ? "draining" : link.type,
    since: rfc3339(link.since),
    hub: facts.hub,
    ...(facts.page === undefined ? {} : { page: facts.page }),
    ...("linkId" in link ? { linkId: link.linkId, epoch: link.epoch } : {}),
    tunnel: tunnelOf(facts),
    ...(facts.lastHeartbeatAtMs === undefined
      ? {}
      : { lastHeartbeatAt: rfc3339(facts.lastHeartbeatAtMs) }),
    ...("retryAt" in link ? { retryAt: rfc3339(link.retryAt) } : {}),
    ...(error ? { error: { code: error.code, detail: error.message, fix: error.fix } } : {}),
    ...(facts.provider === undefined ? {} : { provider: facts.provider }),
    providerReason: facts.providerReason,
    ...(facts.providerFix === undefined ? {} : { providerFix: facts.providerFix }),
    capabilities: facts.capabilities,
    ...(facts.drain === undefined ? {} : { drain: facts.drain }),
    ...(facts.sandboxes === undefined ? {} : { sandboxes: facts.sandboxes }),
    ...(facts.warm === undefined ? {} : { warm: facts.warm }),
    load: { runs: active.length, maxRuns: facts.maxRuns },
    runs: runs.filter((run) => !isEnded(run.status) || run.firstSeq <= run.lastSeq),
    socket: facts.socket,
    ...(facts.control === undefined ? {} : { control: facts.control }),
    warnings: warningsOf(facts),
  };
}

function tunnelOf({ hasTunnel, link }: StatusFacts): StatusSnapshot["tunnel"] {
  if (!hasTunnel) return "off";
  return link.type === "online" || link.type === "advertising" ? "up" : "down";
}

function warningsOf({ missedHeartbeat, provider, providerReason, link }: StatusFacts): Warning[] {
  const warnings: Warning[] = [];
  if (provider === undefined) {
    warnings.push({
      code: "no_provider",
      title: "No sandbox can run here",
      text: providerReason,
      severity: "error",
    });
  }
  if (missedHeartbeat && (link.type === "online" || link.type === "advertising")) {
    warnings.push({
      code: "heartbeat_missed",
      title: "The hub did not take the last heartbeat",
      text: missedHeartbeat.message,
      severity: "warning",
    });
  }
  return warnings;
}

function rfc3339(ms: number): string {
  return new Date(ms).toISOString();
}
