import { PROVIDERS, type ProviderName, type RunState } from "../../protocol/messages.ts";
import { RunStatus } from "../../protocol/run-events.ts";
import type { SqlRow } from "../../storage/open-db.ts";
import { integer, maybeText, text } from "./row.ts";

/**
 * How far an attempt got, so that a restart knows what may be done again:
 * `queued` and `provisioning` may be repeated, `starting` means that the harness may or may not
 * have been told, `running` has its `harnessRunId`, `ending` waits for the terminal event.
 */
const RUN_PHASES = ["queued", "provisioning", "starting", "running", "ending"] as const;
export type RunPhase = (typeof RUN_PHASES)[number];

/** One attempt as the ledger has it, without its body (a prompt may be a MiB). */
export interface RunRecord extends RunState {
  readonly ended: boolean;
  readonly cancelRequested: boolean;
  readonly phase: RunPhase;
  readonly handle?: string;
  readonly provider?: ProviderName;
  readonly harnessRunId?: string;
  /** harnessd's own id of the last event that is in the journal. */
  readonly lastHarnessEventId?: string;
  /** Chain up to `lastSeq`. */
  readonly lastChain: string;
  readonly ackedSeq: number;
  readonly ackedChain: string;
  /** UTF-8 bytes of the events that were not acknowledged. */
  readonly bytes: number;
  /** Unix ms. */
  readonly createdAt: number;
  /** Unix ms of the last event. */
  readonly updatedAt: number;
  /** Unix ms at which its turn came; its time limit counts from here. */
  readonly startedAt?: number;
  /** Milliseconds since then that the laptop slept, which its time limit does not count. */
  readonly sleptMs: number;
}

export const RECORD_COLUMNS = `run_id, attempt, status, ended, cancel_requested, handle, provider,
  harness_run_id, phase, harness_event_id, last_seq, last_chain, acked_seq, acked_chain, bytes,
  created_at, updated_at, started_at, slept_ms`;

export function readRecord(row: SqlRow): RunRecord {
  const handle = maybeText(row, "handle");
  const provider = PROVIDERS.find((name) => name === row["provider"]);
  const harnessRunId = maybeText(row, "harness_run_id");
  const lastHarnessEventId = maybeText(row, "harness_event_id");
  const ackedSeq = integer(row, "acked_seq");
  return {
    runId: text(row, "run_id"),
    attempt: integer(row, "attempt"),
    status: RunStatus.parse(row["status"]),
    firstSeq: ackedSeq + 1,
    lastSeq: integer(row, "last_seq"),
    ended: row["ended"] === 1,
    cancelRequested: row["cancel_requested"] === 1,
    phase: RUN_PHASES.find((phase) => phase === row["phase"]) ?? "starting",
    ...(handle === undefined ? {} : { handle }),
    ...(provider === undefined ? {} : { provider }),
    ...(harnessRunId === undefined ? {} : { harnessRunId }),
    ...(lastHarnessEventId === undefined ? {} : { lastHarnessEventId }),
    lastChain: text(row, "last_chain"),
    ackedSeq,
    ackedChain: text(row, "acked_chain"),
    bytes: integer(row, "bytes"),
    createdAt: integer(row, "created_at"),
    updatedAt: integer(row, "updated_at"),
    ...(row["started_at"] === null ? {} : { startedAt: integer(row, "started_at") }),
    sleptMs: integer(row, "slept_ms"),
  };
}

/** The part of a record that `GET /v1/runs` shows. */
export function toState(record: RunRecord): RunState {
  const { runId, attempt, status, firstSeq, lastSeq } = record;
  return { runId, attempt, status, firstSeq, lastSeq };
}
