import { CHAIN_START } from "../protocol/chain.ts";
import type { Heartbeat, SettledRuns } from "../protocol/messages.ts";
import { isEnded } from "../protocol/run-events.ts";
import type { LinkRow } from "./store/links.ts";
import type { Store } from "./store/open-store.ts";
import { newRun, type RunRow } from "./store/runs.ts";

/** A run that the hub is done with and a daemon is not. */
export interface HeldRun {
  readonly runId: string;
  readonly attempt: number;
}

export interface Adopted {
  /** Runs that the daemon works on besides those that this hub counts itself. */
  readonly otherRuns: number;
  readonly held: readonly HeldRun[];
  /** Up to where this hub knows the journal's settled runs, for the heartbeat's answer. */
  readonly settled: number | undefined;
}

/**
 * Files the runs that this hub doesn't know under the link's user. To be called in a transaction.
 *
 * @see PROTOCOL.md, section "Registration"
 */
export function adopt(store: Store, link: LinkRow, beat: Heartbeat, now: number): Adopted {
  const held: HeldRun[] = [];
  let ours = 0;
  for (const { runId, attempt, status } of beat.runs) {
    const known = take(store, link, { runId, attempt }, now);
    if (known.linkId !== link.linkId) continue;
    if (!isEnded(status)) ours += 1;
    if (known.settled) held.push({ runId, attempt });
  }
  const otherRuns = Math.max(0, beat.load.runs - ours);
  const settled = beat.settled && fileSettled(store, link, beat.settled, now);
  return { otherRuns, held, settled };
}

/**
 * Takes a page of runs that this or an earlier life of the hub acknowledged to their end. Those that
 * a restored hub doesn't know are pulled like all others: of their log only `log.gap` is left.
 */
function fileSettled(store: Store, link: LinkRow, page: SettledRuns, now: number): number {
  const { journal, after, through, total, runs } = page;
  const mark = store.settledMarks.get(link.linkId, journal);
  // A journal that counts less than it did is an older copy of itself: it tells all it has.
  const known = mark > total ? 0 : mark;
  if (after > known || through <= known) return known;
  for (const { runId, attempt, user, harness, thread, branch } of runs) {
    // A home that once belonged to somebody else still has his runs in its ledger.
    if (user !== undefined && user !== link.user) continue;
    take(store, link, { runId, attempt, harness, thread, branch }, now);
  }
  store.settledMarks.put(link.linkId, journal, through);
  return through;
}

type Told = Pick<RunRow, "runId" | "attempt"> & Partial<RunRow>;

/** The run as this hub has it, filed or set to its next attempt where it is news. */
function take(store: Store, { user, linkId }: LinkRow, run: Told, now: number): RunRow {
  const known = store.runs.get(run.runId);
  const row =
    known === undefined
      ? newRun({ ...run, user, linkId, accepted: true, createdAt: now })
      : nextAttempt(known, linkId, run.attempt);
  if (row !== known) store.runs.put(row);
  return row;
}

/**
 * A higher attempt, dispatched on the laptop itself, is a log of its own: it comes behind the lower
 * one's in the hub's, once that is settled.
 */
function nextAttempt(known: RunRow, linkId: string, attempt: number): RunRow {
  if (known.linkId !== linkId || !known.settled || attempt <= known.attempt) return known;
  const { runId, user, createdAt, thread, branch, harness, prompt, lastSeq } = known;
  const agreed = { linkSeq: 0, chain: CHAIN_START, hubSeq: lastSeq };
  const kept = { runId, user, linkId, createdAt, thread, branch, harness, prompt };
  return newRun({ ...kept, attempt, accepted: true, lastSeq, agreed });
}
