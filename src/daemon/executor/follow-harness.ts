import { terminalStatus } from "../../protocol/run-events.ts";
import type { HarnessClient, HarnessEvent } from "../../sandbox/harness-client.ts";
import type { Journal } from "../journal.ts";
import { BatchWriter } from "./batch-writer.ts";
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
  const { journal, client, harnessRunId, runId, attempt, now } = options;
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const writer = new BatchWriter(
    (drafts) => journal.appendWhenRoom(runId, attempt, drafts, signal),
    (error) => failed.abort(error),
  );
  const record = journal.record(runId, attempt);
  const after = record?.lastHarnessEventId;
  const earliest = record?.createdAt ?? 0;
  let end: HarnessEvent | undefined;
  for await (const event of client.events(
    harnessRunId,
    { maxFailures: MAX_FAILURES, ...(after === undefined ? {} : { after }) },
    signal,
  )) {
    if (terminalStatus(event.type)) {
      end = event;
      break;
    }
    const draft = mapHarnessEvent(event, timeOf(event.at, earliest, now()));
    if (draft) await writer.push(draft);
  }
  await writer.flush();
  signal.throwIfAborted();
  if (end) return end;
  throw new Error("the harness's events ended without a terminal one");
}

/** The harness's own time where it can be true, else the daemon's: guests have wrong clocks. */
function timeOf(at: string, earliest: number, now: number): string {
  const time = Date.parse(at);
  const plausible = time >= earliest && time <= now;
  return new Date(plausible ? time : now).toISOString();
}
