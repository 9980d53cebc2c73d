import type { DecoError } from "../protocol/errors.ts";
import type { HeldRun } from "./adopt.ts";
import type { LinkRoute } from "./control-client.ts";
import { deadline } from "./deadline.ts";
import { drainSettled } from "./drain-settled.ts";
import type { HubLog } from "./hub-log.ts";
import type { Reach, Reachable } from "./reach.ts";
import type { RunLog } from "./run-log.ts";
import { keepWorking } from "./run-worker.ts";
import type { Store } from "./store/open-store.ts";

export interface RunWorkersOptions {
  readonly store: Store;
  readonly runLog: RunLog;
  readonly reach: () => Reach;
  readonly log: HubLog;
  readonly now: () => number;
  readonly random: () => number;
  readonly onAccepted: (runId: string) => void;
  readonly onRefused: (runId: string, error: DecoError) => boolean;
}

/** One worker per unsettled run of each reachable link; they end with the link's way. */
export class RunWorkers {
  readonly #options: RunWorkersOptions;
  /** Runs worked on by way: a new way starts anew while workers of the old one still wind down. */
  readonly #runsOf = new WeakMap<LinkRoute, Set<string>>();
  readonly #working = new Set<Promise<void>>();
  readonly #closing = new AbortController();

  constructor(options: RunWorkersOptions) {
    this.#options = options;
  }

  /** Takes up all that is left to do for a link. */
  startLink(linkId: string): void {
    for (const run of this.#options.store.runs.unsettled(linkId)) this.start(run.runId, linkId);
  }

  /** Starts on one run, unless it is worked on or its link is away: then it starts when that is back. */
  start(runId: string, linkId: string): void {
    this.#start(runId, linkId, (reachable) => this.#work(runId, reachable));
  }

  /** Rids a daemon of what it holds of a run that is settled here. */
  startDrain(run: HeldRun, linkId: string): void {
    this.#start(run.runId, linkId, (reachable) => this.#drain(run, reachable));
  }

  /** One worker of a run at a time and way; without a way the next heartbeat starts it. */
  #start(runId: string, linkId: string, act: (reachable: Reachable) => Promise<void>): void {
    const reachable = this.#options.reach().get(linkId);
    if (reachable === undefined || this.#closing.signal.aborted) return;
    const { route } = reachable;
    const runs = this.#runsOf.get(route) ?? new Set();
    this.#runsOf.set(route, runs);
    if (route.signal.aborted || runs.has(runId)) return;
    runs.add(runId);
    const work = act(reachable).finally(() => {
      runs.delete(runId);
      this.#working.delete(work);
    });
    this.#working.add(work);
  }

  async #drain(run: HeldRun, { client, route }: Reachable): Promise<void> {
    using ends = deadline([route.signal, this.#closing.signal]);
    const { log } = this.#options;
    await drainSettled({ ...run, client, log, signal: ends.signal });
  }

  async #work(runId: string, { client, route }: Reachable): Promise<void> {
    const { store, runLog, log, now, random } = this.#options;
    using ends = deadline([route.signal, this.#closing.signal]);
    try {
      await keepWorking({
        runId,
        client,
        store,
        runLog,
        log,
        now,
        random,
        signal: ends.signal,
        onAccepted: () => this.#options.onAccepted(runId),
        onRefused: (error) => this.#options.onRefused(runId, error),
      });
    } catch (error) {
      log.error({ runId, error }, "the run's worker failed; the next heartbeat starts another");
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("the hub is closing"));
    await Promise.all(this.#working);
  }
}
