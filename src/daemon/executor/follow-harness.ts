import { terminalStatus } from "../../protocol/run-events.ts";
import type { HarnessClient, HarnessEvent } from "../../sandbox/harness-client.ts";
import type { Journal } from "../journal.ts";
import { BatchWriter } from "./batch-writer.ts";
import { harnessAcks } from "./harness-acks.ts";
import { mapHarnessEvent } from "./map-harness-event.ts";

/** Few, so that a sandbox that is gone is soon asked about; the caller tries again. */
const MAX_FAILURES = 2;

export interface FollowHarness {
  readonly journal: Journal;
  readonly client: HarnessClient;
  readonly harnessRunId: string;
  readonly runId: string;
  readonly attempt: number;
  readonly now: () => number;
  readonly signal: AbortSignal;
}

/**
 * Journals what a harness says, from behind the last event that is on disk, and gives back its
 * terminal event, which is not journaled: the daemon says the end, after its own look.
 *
 * @throws harness_unreachable, run_not_found, storage_failed
 */
export async function followHarness(options: FollowHarness): Promise<HarnessEvent> {
  const { journal, client, harnessRunId, runId, attempt } = options;
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const over = new AbortController();
  const acks = harnessAcks(client, harnessRunId, AbortSignal.any([signal, over.signal]));
  const writer = new BatchWriter(
    async (drafts) => {
      await journal.appendWhenRoom(runId, attempt, drafts, signal);
      const last = drafts.at(-1)?.harnessEventId;
      if (last !== undefined) acks.note(last);
    },
    (error) => failed.abort(error),
  );
  // What an earlier daemon journaled it may not have told.
  const after = journal.record(runId, attempt)?.lastHarnessEventId;
  if (after !== undefined) acks.note(after);
  try {
    const end = await copyEvents({ ...options, signal }, after, writer);
    await writer.flush();
    signal.throwIfAborted();
    if (end) return end;
    throw new Error("the harness's events ended without a terminal one");
  } finally {
    over.abort();
  }
}

/** Hands all but the terminal event to the writer; gives that one. */
async function copyEvents(
  { journal, client, harnessRunId, runId, attempt, now, signal }: FollowHarness,
  after: string | undefined,
  writer: BatchWriter,
): Promise<HarnessEvent | undefined> {
  const earliest = journal.record(runId, attempt)?.createdAt ?? 0;
  const from = { maxFailures: MAX_FAILURES, ...(after === undefined ? {} : { after }) };
  for await (const event of client.events(harnessRunId, from, signal)) {
    if (terminalStatus(event.type)) return event;
    const draft = mapHarnessEvent(event, timeOf(event.at, earliest, now()));
    if (draft) await writer.push(draft);
  }
  return undefined;
}

/** The harness's own time where it can be true, else the daemon's: guests have wrong clocks. */
function timeOf(at: string, earliest: number, now: number): string {
  const time = Date.parse(at);
  const plausible = time >= earliest && time <= now;
  return new Date(plausible ? time : now).toISOString();
}
