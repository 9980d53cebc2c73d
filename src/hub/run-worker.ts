import { z } from "zod";
import { DecoError, type Leg } from "../protocol/errors.ts";
import { Chain, Truncated } from "../protocol/messages.ts";
import { isEnded, RunStatus } from "../protocol/run-events.ts";
import type { ControlClient } from "./control-client.ts";
import { sleep } from "./deadline.ts";
import type { HubLog } from "./hub-log.ts";
import { ack, pull } from "./pull.ts";
import type { RunLog } from "./run-log.ts";
import type { Store } from "./store/open-store.ts";
import type { RunRow } from "./store/runs.ts";

export interface RunWorkOptions {
  readonly runId: string;
  readonly client: ControlClient;
  readonly store: Store;
  readonly runLog: RunLog;
  readonly log: HubLog;
  readonly signal: AbortSignal;
  readonly now: () => number;
  readonly random: () => number;
  /** The daemon's ledger has the run. */
  readonly onAccepted: () => void;
  /** The daemon refuses the run. True when the refusal reached the caller, and the run is gone. */
  readonly onRefused: (error: DecoError) => boolean;
}

const RETRY_MS = { first: 100, most: 5000 } as const;

/** Works on one run until it is settled or its link is gone; never gives up before (LESSONS 15). */
export async function keepWorking(o: RunWorkOptions): Promise<void> {
  let failures = 0;
  while (!o.signal.aborted) {
    const before = o.store.runs.get(o.runId);
    if (before === undefined || before.settled) return;
    try {
      await workOnce(o, before);
    } catch (error) {
      if (o.signal.aborted) return;
      await recover(o, DecoError.from(error));
    }
    const after = o.store.runs.get(o.runId);
    if (after === undefined || after.settled) return;
    const moved = after.lastSeq !== before.lastSeq || after.accepted !== before.accepted;
    failures = moved ? 0 : failures + 1;
    if (failures > 0) await sleep(backoff(failures, o.random), o.signal);
  }
}

/** Full jitter, but never less than a tenth: an end of stream right away must not spin. */
function backoff(failures: number, random: () => number): number {
  const most = Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** Math.min(failures, 10));
  return most * (0.1 + 0.9 * random());
}

/** Cancels first, then what was not dispatched, then the journal, then the last word to the daemon. */
async function workOnce(o: RunWorkOptions, run: RunRow): Promise<void> {
  if (!isEnded(run.status)) {
    if (run.cancelRequested) await cancelFirst(o, run);
    if (!run.accepted && !(await dispatch(o, run))) return;
    const current = o.store.runs.get(o.runId) ?? run;
    // Asked for while the dispatch was under way: the daemon would hear it with a heartbeat only.
    if (current.cancelRequested && !run.cancelRequested) await cancelFirst(o, current);
    await pull({ run: current, client: o.client, log: o.runLog, signal: o.signal });
  }
  const pulled = o.store.runs.get(o.runId);
  if (pulled === undefined) return;
  if (isEnded(pulled.status)) {
    await ack({ client: o.client, log: o.runLog, signal: o.signal, run: pulled });
  } else if (pulled.linkSeq === run.linkSeq) {
    await endTruncated(o, pulled);
  }
}

/** A daemon that refuses the cancel must not keep the run from being read. */
async function cancelFirst(o: RunWorkOptions, run: RunRow): Promise<void> {
  try {
    await deliverCancel(o.client, run, o.signal);
  } catch (error) {
    if (!(error instanceof DecoError) || isTransient(error)) throw error;
    o.log.warn({ runId: o.runId, code: error.code }, "the daemon refused the cancel");
  }
}

/** @throws DecoError of the daemon or the transport. */
export async function deliverCancel(
  client: ControlClient,
  run: RunRow,
  signal: AbortSignal,
): Promise<void> {
  const body = JSON.stringify({ attempt: run.attempt });
  await client.call({ method: "POST", path: `/v1/runs/${run.runId}/cancel`, body, signal });
}

/** False when the daemon refused it. */
async function dispatch(o: RunWorkOptions, run: RunRow): Promise<boolean> {
  if (run.body === undefined) return true;
  const { runId } = run;
  o.runLog.update(runId, (row) => ({ ...row, facts: { dispatchedAt: o.now(), ...row.facts } }));
  try {
    await o.client.call({ method: "POST", path: "/v1/runs", body: run.body, signal: o.signal });
  } catch (error) {
    if (!(error instanceof DecoError) || o.signal.aborted || isTransient(error)) throw error;
    if (!o.onRefused(error)) failRun(o.runLog, runId, error);
    return false;
  }
  o.runLog.update(runId, (row) => ({
    ...row,
    accepted: true,
    facts: { ...row.facts, acceptedAt: o.now() },
  }));
  o.onAccepted();
  return true;
}

/** What says nothing about the run itself: the way there broke, or keys are just changing. */
function isTransient(error: DecoError): boolean {
  if (error.code === "link_busy") return false;
  const { status, retryable } = error.info;
  return retryable || status === 401 || status >= 500;
}

/** A late refusal becomes the run's end, with the leg that refused (LESSONS 19). */
export function failRun(log: RunLog, runId: string, error: DecoError, leg: Leg = "daemon"): void {
  const { code, message: detail, fix } = error;
  log.add(runId, { type: "run.failed", payload: { code, leg, detail, fix } });
  log.update(runId, (row) => ({ ...row, settled: true }));
}

async function recover(o: RunWorkOptions, error: DecoError): Promise<void> {
  const { runId, runLog } = o;
  const { code, message: detail } = error;
  if (code === "events_truncated") {
    skipTruncated(o, error);
  } else if (code === "chain_mismatch" || code === "seq_ahead") {
    o.log.warn({ runId, code }, "hub and daemon disagree: pulling again what was not agreed");
    const { data } = Agreed.safeParse(error.extensions);
    if (data !== undefined) runLog.agreeAt(runId, data.ackedSeq, data.ackedChain);
    runLog.dropUnagreed(runId);
    // It never agreed to what this hub agreed on with somebody: it is another journal.
    const { agreed } = o.store.runs.get(runId) ?? {};
    if (data !== undefined && agreed && data.ackedSeq < agreed.linkSeq) giveUp(o, error);
  } else if (code === "run_not_found") {
    giveUp(o, error);
  } else {
    o.log.info({ runId, code, detail }, "run waits for its link, will try again");
  }
}

/** What a daemon that refuses an ack says of its own side. */
const Agreed = z.looseObject({ ackedSeq: z.int().min(0), ackedChain: Chain });

function skipTruncated({ runLog, runId }: RunWorkOptions, error: DecoError): void {
  const { data } = Truncated.safeParse(error.extensions);
  if (data !== undefined) runLog.gap(runId, data.firstSeq, data.chain);
}

/** The daemon's journal lost a run that it had accepted, or is not the one that had it. */
function giveUp({ runLog, runId, store }: RunWorkOptions, error: DecoError): void {
  const run = store.runs.get(runId);
  if (run === undefined || !run.accepted) return;
  if (isEnded(run.status)) runLog.update(runId, (row) => ({ ...row, settled: true }));
  else failRun(runLog, runId, error);
}

const DaemonRun = z.object({ status: RunStatus, attempt: z.int(), lastSeq: z.int() });

/** Behind a gap the terminal event itself may be gone: then the daemon's ledger says how it ended. */
async function endTruncated(o: RunWorkOptions, run: RunRow): Promise<void> {
  const path = `/v1/runs/${run.runId}?attempt=${run.attempt}`;
  const { body } = await o.client.call({ method: "GET", path, signal: o.signal });
  const { data: state } = DaemonRun.safeParse(body);
  if (state === undefined || !isEnded(state.status)) return;
  if (state.attempt !== run.attempt || state.lastSeq > run.linkSeq) return;
  const detail = "the events were acknowledged to an earlier life of this hub and removed";
  const fix = "Start the run again if its output is needed.";
  if (state.status === "completed") {
    o.runLog.add(run.runId, { type: "run.completed", payload: { output: "", detail } });
  } else if (state.status === "cancelled") {
    o.runLog.add(run.runId, { type: "run.cancelled", payload: { detail } });
  } else {
    const payload = { code: "events_truncated", leg: "hub", detail, fix };
    o.runLog.add(run.runId, { type: "run.failed", payload });
  }
  o.runLog.update(run.runId, (row) => ({ ...row, settled: true }));
}
