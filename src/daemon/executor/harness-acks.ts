import { setTimeout as sleep } from "node:timers/promises";
import type { HarnessClient } from "../../sandbox/harness-client.ts";

/** Tells a harnessd what is in the journal, so that it may drop that and take more. */
export interface HarnessAcks {
  /** Everything up to this event of harnessd's is on our disk. */
  note(harnessEventId: string): void;
}

/** Between two acks: one is enough for all that was journaled meanwhile. */
const SPACING_MS = 100;

/** One ack at a time, the newest always sent at last; a lost one is made good by the next. */
export function harnessAcks(
  client: HarnessClient,
  runId: string,
  signal: AbortSignal,
): HarnessAcks {
  let wanted = -1;
  let acked = -1;
  let working = false;
  let refused = false;
  const work = async () => {
    while (wanted > acked && !refused) {
      const seq = wanted;
      // The Go program takes no acks: then it keeps everything.
      refused = !(await client.ack(runId, seq, signal));
      acked = seq;
      await sleep(SPACING_MS, undefined, { signal });
    }
  };
  return {
    note: (id) => {
      const seq = Number(/:(\d{1,15})$/.exec(id)?.[1] ?? -1);
      wanted = Math.max(wanted, seq);
      if (working || refused) return;
      working = true;
      // Whatever is wrong with harnessd shows at its events.
      work()
        .catch(() => undefined)
        .finally(() => {
          working = false;
        });
    },
  };
}
