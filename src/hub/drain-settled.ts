import { z } from "zod";
import { CHAIN_START, nextChain } from "../protocol/chain.ts";
import { DecoError } from "../protocol/errors.ts";
import { Truncated } from "../protocol/messages.ts";
import { isEnded, RunStatus, terminalStatus } from "../protocol/run-events.ts";
import type { HeldRun } from "./adopt.ts";
import { batched } from "./batched.ts";
import type { ControlClient } from "./control-client.ts";
import type { HubLog } from "./hub-log.ts";

export interface DrainOptions extends HeldRun {
  readonly client: ControlClient;
  readonly log: HubLog;
  readonly signal: AbortSignal;
}

/** Lines between two acks: the journal gets its room back while a long log is read. */
const BATCH = 256;

/**
 * Ends and empties what a daemon holds of a run that is settled on this hub: a copied home took over
 * meanwhile, or the run was given up. The hub's log keeps its end and takes nothing of this; what is
 * discarded is counted in the hub's own log. Never throws: the next heartbeat lists what is left.
 */
export async function drainSettled(o: DrainOptions): Promise<void> {
  const { runId, attempt, log } = o;
  try {
    const before = await stateOf(o);
    if (before.firstSeq > before.lastSeq && isEnded(before.status)) return;
    if (!isEnded(before.status)) {
      await post(o, "cancel", { attempt });
      log.warn({ runId, attempt }, "a daemon still works on a run that has ended here: cancelled");
    }
    const discarded = await readAway(o);
    log.warn({ runId, attempt, ...discarded }, "a daemon still held a run that has ended here");
  } catch (error) {
    if (o.signal.aborted) return;
    const { code, message: detail } = DecoError.from(error);
    log.info(
      { runId, attempt, code, detail },
      "run not drained yet, the next heartbeat tries again",
    );
  }
}

interface Place {
  readonly after: number;
  readonly chain: string;
}

interface Discarded {
  readonly events: number;
  readonly bytes: number;
}

async function readAway(o: DrainOptions): Promise<Discarded> {
  try {
    return await readAwayFrom(o, { after: 0, chain: CHAIN_START });
  } catch (error) {
    const { code, extensions } = DecoError.from(error);
    const { data } = Truncated.safeParse(extensions);
    if (code !== "events_truncated" || data?.chain === undefined) throw error;
    return readAwayFrom(o, { after: data.firstSeq - 1, chain: data.chain });
  }
}

/** Reads to the terminal event, and acknowledges without storing. */
async function readAwayFrom(o: DrainOptions, { after, chain }: Place): Promise<Discarded> {
  const { runId, attempt, client, signal } = o;
  let seq = after;
  let agreed = chain;
  let events = 0;
  let bytes = 0;
  const path = `/v1/runs/${runId}/events?attempt=${attempt}&after=${after}`;
  for await (const batch of batched(client.events(path, signal), BATCH)) {
    for (const { id = "0", data } of batch) {
      // Lines may come twice; what is missing shows in the chain.
      if (Number(id) <= seq) continue;
      seq = Number(id);
      agreed = nextChain(agreed, data);
      events += 1;
      bytes += Buffer.byteLength(data);
    }
    await post(o, "ack", { attempt, seq, chain: agreed });
    if (batch.some(({ event = "" }) => terminalStatus(event) !== undefined)) break;
  }
  return { events, bytes };
}

async function post(o: DrainOptions, verb: "ack" | "cancel", body: object): Promise<void> {
  const path = `/v1/runs/${o.runId}/${verb}`;
  await o.client.call({ method: "POST", path, body: JSON.stringify(body), signal: o.signal });
}

const Held = z.object({ status: RunStatus, firstSeq: z.int(), lastSeq: z.int() });

async function stateOf({ runId, attempt, client, signal }: DrainOptions) {
  const path = `/v1/runs/${runId}?attempt=${attempt}`;
  return Held.parse((await client.call({ method: "GET", path, signal })).body);
}
