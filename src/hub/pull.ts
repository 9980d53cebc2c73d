import { DecoError } from "../protocol/errors.ts";
import { isEnded } from "../protocol/run-events.ts";
import { batched } from "./batched.ts";
import type { ControlClient } from "./control-client.ts";
import { deadline, sleep } from "./deadline.ts";
import type { RunLog } from "./run-log.ts";
import type { RunRow } from "./store/runs.ts";

export interface PullOptions {
  readonly run: RunRow;
  readonly client: ControlClient;
  readonly log: RunLog;
  readonly signal: AbortSignal;
}

/** The daemon's journal is told so often at most, in ms, while a run streams. */
const ACK_INTERVAL_MS = 250;
const BATCH = 256;

/**
 * Reads one attempt from the last stored number until its terminal event is stored, acknowledging
 * as it goes (LESSONS 16). The end of the stream before that is an end, too: the caller looks at
 * the run's status and comes again.
 *
 * @throws DecoError of the daemon's answer or of the transport; `chain_mismatch` of an ack.
 */
export async function pull({ run, client, log, signal }: PullOptions): Promise<void> {
  const { runId, attempt } = run;
  const stopped = new AbortController();
  using limit = deadline([signal, stopped.signal]);
  const acks = ackLoop({ client, log, signal: limit.signal, onFailed: () => stopped.abort() });
  const path = `/v1/runs/${runId}/events?attempt=${attempt}&after=${run.linkSeq}`;
  try {
    acks.tell(run);
    for await (const frames of batched(client.events(path, limit.signal), BATCH)) {
      const stored = log.take(runId, attempt, frames);
      if (stored === undefined) return;
      acks.rethrow();
      if (isEnded(stored.status)) break;
      acks.tell(stored);
    }
    await acks.settle();
  } catch (error) {
    acks.rethrow();
    throw error;
  } finally {
    stopped.abort(new DecoError("tunnel_lost", "the pull is over"));
  }
}

/** Tells the daemon what the hub holds up to a snapshot of the run. @throws DecoError chain_mismatch */
export async function ack(o: {
  client: ControlClient;
  log: RunLog;
  signal: AbortSignal;
  run: RunRow;
}): Promise<void> {
  const { runId, attempt, linkSeq: seq, chain } = o.run;
  // Behind a gap nobody knows the chain; then there is nothing to agree on.
  if (chain !== undefined && seq > o.run.agreed.linkSeq) {
    const body = JSON.stringify({ attempt, seq, chain });
    await o.client.call({ method: "POST", path: `/v1/runs/${runId}/ack`, body, signal: o.signal });
  }
  o.log.agree(runId, o.run);
}

interface AckLoopOptions {
  readonly client: ControlClient;
  readonly log: RunLog;
  readonly signal: AbortSignal;
  readonly onFailed: () => void;
}

/**
 * Tells what is stored, at most one ack under way and a pause behind it; in the end all of it, also
 * when no event follows: a harness that a full journal holds says nothing until it has room.
 */
function ackLoop(o: AckLoopOptions) {
  let newest: RunRow | undefined;
  let underWay: Promise<void> | undefined;
  let telling = false;
  let failed: { error: unknown } | undefined;
  const tellAll = async () => {
    telling = true;
    try {
      while (newest !== undefined && !o.signal.aborted) {
        underWay = ack({ ...o, run: newest });
        newest = undefined;
        await underWay;
        await sleep(ACK_INTERVAL_MS, o.signal);
      }
    } catch (error) {
      failed = { error };
      o.onFailed();
    } finally {
      telling = false;
    }
  };
  const rethrow = () => {
    if (failed !== undefined) throw failed.error;
  };
  return {
    rethrow,
    tell(run: RunRow): void {
      if (run.linkSeq <= run.agreed.linkSeq) return;
      newest = run;
      if (!telling) void tellAll();
    },
    async settle(): Promise<void> {
      newest = undefined;
      rethrow();
      await underWay;
    },
  };
}
