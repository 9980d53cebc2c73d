import { createHash } from "node:crypto";
import { CHAIN_START } from "../../protocol/chain.ts";
import { DecoError } from "../../protocol/errors.ts";
import type { DispatchRun, ProviderName } from "../../protocol/messages.ts";
import type { Db } from "../../storage/open-db.ts";
import { createCancels } from "./cancels.ts";
import { canonicalJson } from "./canonical-json.ts";
import { createLedgerReads, type LedgerReads } from "./ledger-reads.ts";
import { text } from "./row.ts";
import type { RunPhase } from "./run-record.ts";
import { createSettledRuns, type SettledRunsLedger } from "./settled-runs.ts";

/** What is known of a run besides its events. */
export interface RunProgress {
  readonly phase?: RunPhase;
  readonly handle?: string;
  readonly provider?: ProviderName;
  readonly harnessRunId?: string;
  /** Unix ms; the first one counts. */
  readonly startedAt?: number;
  /** Added to what is known. */
  readonly sleptMs?: number;
}

/** The ledger: which runs this daemon has ever taken, and what was cancelled before it came. */
export interface Ledger extends LedgerReads, SettledRunsLedger {
  /** @throws run_conflict, attempt_stale */
  insert(dispatch: DispatchRun): "created" | "attached";
  setProgress(runId: string, attempt: number, progress: RunProgress): void;
  /** Whether a cancel was journaled that covers this attempt. */
  cancelled(runId: string, attempt: number): boolean;
  /** @throws attempt_stale */
  cancel(runId: string, attempt: number | undefined): "unknown" | "marked" | "ended";
}

export function createLedger(db: Db, now: () => number): Ledger {
  const reads = createLedgerReads(db);
  const cancels = createCancels(db, now);
  const settled = createSettledRuns(db);
  const hashOf = db.prepare("SELECT body_sha256 FROM runs WHERE run_id = ? AND attempt = ?");
  const insert = db.prepare(
    `INSERT INTO runs (run_id, attempt, body, body_sha256, status, last_chain, acked_chain,
     created_at, updated_at) VALUES (?, ?, ?, ?, 'queued', ?, ?, ?, ?)`,
  );
  const progress = db.prepare(
    `UPDATE runs SET phase = coalesce(?, phase), handle = coalesce(?, handle),
     provider = coalesce(?, provider), harness_run_id = coalesce(?, harness_run_id),
     started_at = coalesce(started_at, ?), slept_ms = slept_ms + ?
     WHERE run_id = ? AND attempt = ?`,
  );
  const mark = db.prepare("UPDATE runs SET cancel_requested = 1 WHERE run_id = ? AND attempt = ?");

  return {
    ...reads,
    ...settled,
    insert: (dispatch) => {
      const { runId, attempt } = dispatch;
      const known = reads.find(runId);
      if (known && attempt < known.attempt) throw stale(runId, attempt, known.attempt);
      const body = canonicalJson(dispatch);
      const sha256 = createHash("sha256").update(body).digest("hex");
      if (known?.attempt === attempt) {
        if (text(hashOf.get(runId, attempt), "body_sha256") === sha256) return "attached";
        throw new DecoError("run_conflict", `${runId} attempt ${attempt} has another body`);
      }
      insert.run(runId, attempt, body, sha256, CHAIN_START, CHAIN_START, now(), now());
      return "created";
    },
    setProgress: (runId, attempt, next) => {
      const { phase = null, handle = null, provider = null, harnessRunId = null } = next;
      const { startedAt = null, sleptMs = 0 } = next;
      progress.run(phase, handle, provider, harnessRunId, startedAt, sleptMs, runId, attempt);
    },
    cancelled: (runId, attempt) => cancels.covers(runId, attempt),
    cancel: (runId, attempt) =>
      db.transaction(() => {
        const known = reads.find(runId);
        const wanted = attempt ?? known?.attempt;
        if (!known || wanted === undefined || wanted > known.attempt) {
          cancels.keep(runId, attempt);
        } else if (wanted < known.attempt) {
          throw stale(runId, wanted, known.attempt);
        }
        if (!known || (known.ended && wanted !== known.attempt)) return "unknown";
        if (known.ended) return "ended";
        mark.run(runId, known.attempt);
        return "marked";
      }),
  };
}

function stale(runId: string, attempt: number, newest: number): DecoError {
  return new DecoError("attempt_stale", `${runId} is at attempt ${newest}, not ${attempt}`);
}
