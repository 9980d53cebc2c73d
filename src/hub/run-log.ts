import { nextChain } from "../protocol/chain.ts";
import { DecoError } from "../protocol/errors.ts";
import {
  encodeRunEvent,
  isEnded,
  RunEvent,
  type RunEventDraft,
  terminalStatus,
} from "../protocol/run-events.ts";
import type { SseFrame } from "../protocol/sse.ts";
import { foldEvent } from "./run-facts.ts";
import type { Store } from "./store/open-store.ts";
import type { RunRow } from "./store/runs.ts";
import { noteSandbox } from "./thread-pins.ts";
import type { Wakeups } from "./wakeups.ts";

export interface RunLogOptions {
  readonly store: Store;
  readonly wakeups: Wakeups;
  readonly now: () => number;
}

/** How many events one look at the store takes. */
const PAGE = 256;

/** The hub's log of runs: its own numbers, the daemon's beside them, each event stored once. */
export class RunLog {
  readonly #store: Store;
  readonly #wakeups: Wakeups;
  readonly #now: () => number;

  constructor({ store, wakeups, now }: RunLogOptions) {
    this.#store = store;
    this.#wakeups = wakeups;
    this.#now = now;
  }

  /** Changes a run's row; wakes its readers. Undefined when the run is gone. */
  update(runId: string, change: (run: RunRow) => RunRow): RunRow | undefined {
    const run = this.#store.transaction(() => {
      const found = this.#store.runs.get(runId);
      if (found === undefined) return undefined;
      const changed = change(found);
      this.#store.runs.put(changed);
      return changed;
    });
    this.#wakeups.wake(runId);
    return run;
  }

  /** Adds an event of the hub's own, unless the run has ended. */
  add(runId: string, draft: RunEventDraft): RunRow | undefined {
    return this.update(runId, (run) => {
      if (isEnded(run.status)) return run;
      const seq = run.lastSeq + 1;
      const at = draft.at ?? new Date(this.#now()).toISOString();
      const data = encodeRunEvent({
        seq,
        runId,
        type: draft.type,
        at,
        payload: { ...draft.payload },
      });
      const row = { seq, attempt: run.attempt, linkSeq: undefined, type: draft.type, data };
      this.#store.events.insert(runId, row);
      return { ...run, ...foldEvent(run, draft, this.#now()), lastSeq: seq };
    });
  }

  /**
   * Stores what the daemon sent, in one commit; what is there already is skipped.
   *
   * @throws DecoError `invalid_request` when the frames are no events of this run or leave a gap.
   */
  take(runId: string, attempt: number, frames: readonly SseFrame[]): RunRow | undefined {
    return this.update(runId, (before) => {
      if (before.attempt !== attempt) return before;
      let run = before;
      for (const frame of frames) run = this.#takeOne(run, frame);
      return run;
    });
  }

  #takeOne(run: RunRow, frame: SseFrame): RunRow {
    const event = readEvent(run.runId, frame);
    if (event.seq <= run.linkSeq || isEnded(run.status)) return run;
    if (event.seq !== run.linkSeq + 1) {
      throw new DecoError("invalid_request", `event ${event.seq} came after ${run.linkSeq}`);
    }
    const seq = run.lastSeq + 1;
    const { type } = event;
    this.#store.events.insert(run.runId, {
      seq,
      attempt: run.attempt,
      linkSeq: event.seq,
      type,
      data: frame.data,
    });
    if (type === "sandbox.ready") noteSandbox(this.#store, run, event.payload);
    const chain = run.chain === undefined ? undefined : nextChain(run.chain, frame.data);
    const known = type === "run.started" ? startedFields(run, event) : {};
    return {
      ...run,
      ...known,
      ...foldEvent(run, event, this.#now()),
      accepted: true,
      lastSeq: seq,
      linkSeq: event.seq,
      chain,
    };
  }

  /**
   * Records what was lost for good on the way, and where the daemon's journal goes on.
   *
   * @param chain - The daemon's chain behind what it truncated, where it tells: agreed from then on.
   */
  gap(runId: string, firstSeq: number, chain: string | undefined): void {
    const run = this.#store.runs.get(runId);
    if (run === undefined || firstSeq <= run.linkSeq + 1) return;
    const payload = { attempt: run.attempt, fromSeq: run.linkSeq + 1, toSeq: firstSeq - 1 };
    const linkSeq = firstSeq - 1;
    this.#store.transaction(() => {
      this.add(runId, { type: "log.gap", payload });
      this.update(runId, (row) => {
        const agreed = { linkSeq, chain, hubSeq: row.lastSeq };
        return { ...row, linkSeq, chain, agreed };
      });
    });
  }

  /**
   * Takes over what the daemon holds for agreed, if the hub's own lines give that chain there: the
   * answer to an earlier ack was lost. False, and nothing changed, if they don't.
   */
  agreeAt(runId: string, seq: number, chain: string): boolean {
    const run = this.#store.runs.get(runId);
    if (run === undefined || run.agreed.chain === undefined || seq <= run.agreed.linkSeq)
      return false;
    let own: string = run.agreed.chain;
    for (let after = run.agreed.hubSeq; after < run.lastSeq; after += PAGE) {
      for (const row of this.#store.events.read(runId, after, PAGE)) {
        if (row.linkSeq === undefined) continue;
        own = nextChain(own, row.data);
        if (row.linkSeq < seq) continue;
        if (row.linkSeq !== seq || own !== chain) return false;
        const agreed = { linkSeq: seq, chain, hubSeq: row.seq };
        this.update(runId, (now) => ({ ...now, agreed }));
        return true;
      }
    }
    return false;
  }

  /** The two sides agree on everything up to a snapshot of the run. */
  agree(runId: string, snapshot: RunRow): RunRow | undefined {
    return this.update(runId, (run) => ({
      ...run,
      agreed: { linkSeq: snapshot.linkSeq, chain: snapshot.chain, hubSeq: snapshot.lastSeq },
      settled: isEnded(run.status) && run.linkSeq === snapshot.linkSeq,
    }));
  }

  /** Drops what was not agreed on, so that it is pulled again. False when there was nothing. */
  dropUnagreed(runId: string): boolean {
    let dropped = false;
    this.update(runId, (run) => {
      const { agreed } = run;
      dropped = run.lastSeq > agreed.hubSeq;
      if (!dropped) return run;
      this.#store.events.dropAfter(runId, agreed.hubSeq);
      return this.#refold({
        ...run,
        linkSeq: agreed.linkSeq,
        chain: agreed.chain,
        lastSeq: agreed.hubSeq,
      });
    });
    return dropped;
  }

  #refold(run: RunRow): RunRow {
    const { dispatchedAt, acceptedAt } = run.facts;
    const facts = {
      ...(dispatchedAt === undefined ? {} : { dispatchedAt }),
      ...(acceptedAt === undefined ? {} : { acceptedAt }),
    };
    let folded: Pick<RunRow, "status" | "facts"> = { status: "queued", facts };
    for (let after = 0; ; after += PAGE) {
      const page = this.#store.events.read(run.runId, after, PAGE);
      for (const row of page) {
        if (row.attempt !== run.attempt) continue;
        const event = RunEvent.parse(JSON.parse(row.data));
        folded = foldEvent(folded, event, Date.parse(event.at) || this.#now());
      }
      if (page.length < PAGE) return { ...run, ...folded };
    }
  }

  /**
   * The log behind `after`, then what comes, until the terminal event. Many may follow at once.
   *
   * @throws DecoError `seq_ahead`, at the first step.
   */
  async *follow(
    runId: string,
    after: number,
    signal: AbortSignal,
  ): AsyncGenerator<SseFrame, void, undefined> {
    let seq = after;
    while (!signal.aborted) {
      const run = this.#store.runs.get(runId);
      if (run === undefined) return;
      if (seq > run.lastSeq) throw aheadError(seq, run.lastSeq);
      const page = this.#store.events.read(runId, seq, PAGE);
      for (const row of page) {
        seq = row.seq;
        yield { id: String(seq), event: row.type, data: renumbered(row.data, seq, row.linkSeq) };
        if (terminalStatus(row.type) !== undefined && row.attempt === run.attempt) return;
      }
      if (page.length > 0) continue;
      if (isEnded(run.status)) return;
      // Nothing was awaited since the look at the store: no wake can be lost.
      await this.#wakeups.next(runId, signal);
    }
  }
}

export function aheadError(after: number, lastSeq: number): DecoError {
  return new DecoError("seq_ahead", `asked behind ${after}, the last event is ${lastSeq}`, {
    extensions: { lastSeq },
  });
}

/** The daemon's line with the hub's number; untouched where both are the same. */
function renumbered(data: string, seq: number, linkSeq: number | undefined): string {
  if (linkSeq === undefined || linkSeq === seq) return data;
  return encodeRunEvent({ ...RunEvent.parse(JSON.parse(data)), seq });
}

function readEvent(runId: string, frame: SseFrame): RunEvent {
  const parsed = RunEvent.safeParse(parseJson(frame.data));
  if (!parsed.success)
    throw new DecoError("invalid_request", "the daemon sent a line that is no event");
  if (parsed.data.runId !== runId || String(parsed.data.seq) !== frame.id) {
    throw new DecoError("invalid_request", `the daemon sent an event of another run or number`);
  }
  return parsed.data;
}

/** What a run that this hub did not start says of itself. */
function startedFields(run: RunRow, event: RunEvent): Partial<RunRow> {
  const text = (name: string) => {
    const value = event.payload[name];
    return typeof value === "string" ? value : undefined;
  };
  return {
    harness: run.harness ?? text("harness"),
    thread: run.thread ?? text("thread"),
    branch: run.branch ?? text("branch"),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
