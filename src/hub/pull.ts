import { DecoError } from "../protocol/errors.ts";
import { isEnded } from "../protocol/run-events.ts";
import { batched } from "./batched.ts";
import type { ControlClient } from "./control-client.ts";
import { deadline } from "./deadline.ts";
import type { RunLog } from "./run-log.ts";
import type { RunRow } from "./store/runs.ts";

export interface PullOptions {
  readonly run: RunRow;
  readonly client: ControlClient;
  readonly log: RunLog;
  readonly signal: AbortSignal;
  readonly now: () => number;
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
export async function pull({ run, client, log, signal, now }: PullOptions): Promise<void> {
  const { runId, attempt } = run;
  const stopped = new AbortController();
  using limit = deadline([signal, stopped.signal]);
  const acks = ackLoop({ client, log, signal: limit.signal });
  const path = `/v1/runs/${runId}/events?attempt=${attempt}&after=${run.linkSeq}`;
  let ackedAt = 0;
  try {
    for await (const frames of batched(client.events(path, limit.signal), BATCH)) {
      const stored = log.take(runId, attempt, frames);
      if (stored === undefined) return;
      acks.rethrow();
      if (isEnded(stored.status)) break;
      if (now() - ackedAt >= ACK_INTERVAL_MS) {
        ackedAt = now();
        acks.start(stored);
      }
    }
    await acks.settle();
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

/** At most one ack under way; its failure shows at the next look. */
function ackLoop(o: { client: ControlClient; log: RunLog; signal: AbortSignal }) {
  let pending: Promise<void> | undefined;
  let failed: { error: unknown } | undefined;
  const rethrow = () => {
    if (failed !== undefined) throw failed.error;
  };
  return {
    rethrow,
    start(run: RunRow): void {
      pending ??= ack({ ...o, run })
        .catch((error: unknown) => {
          failed = { error };
        })
        .finally(() => {
          pending = undefined;
        });
    },
    async settle(): Promise<void> {
      await pending;
      rethrow();
    },
  };
}
