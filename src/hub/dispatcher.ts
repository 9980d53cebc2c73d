import { createHash, randomUUID } from "node:crypto";
import { type Deferred, deferred } from "../protocol/deferred.ts";
import { DecoError } from "../protocol/errors.ts";
import { type CreateRun, type DispatchRun, HARNESSES } from "../protocol/messages.ts";
import { isEnded, type RunStatus } from "../protocol/run-events.ts";
import { chooseLink } from "./choose-link.ts";
import type { ControlClient } from "./control-client.ts";
import { sleep } from "./deadline.ts";
import type { HubLog } from "./hub-log.ts";
import type { Presence } from "./presence.ts";
import type { Reach } from "./reach.ts";
import type { RunLog } from "./run-log.ts";
import { deliverCancel, failRun } from "./run-worker.ts";
import { RunWorkers } from "./run-workers.ts";
import type { Store } from "./store/open-store.ts";
import { newRun, type RunRow } from "./store/runs.ts";
import { applyPins, linksOfThread, pinThread } from "./thread-pins.ts";

export interface DispatcherOptions {
  readonly store: Store;
  readonly presence: Presence;
  readonly reach: Reach;
  readonly runLog: RunLog;
  readonly log: HubLog;
  readonly now: () => number;
  readonly random: () => number;
  /** So long a caller waits for the daemon's own answer, in ms. */
  readonly acceptTimeoutMs?: number | undefined;
}

/** Answer of `POST /api/runs`. */
export interface Dispatched {
  readonly runId: string;
  readonly linkId: string;
  readonly status: RunStatus;
}

export interface DispatchRequest {
  readonly user: string;
  readonly body: CreateRun;
  /** The `Idempotency-Key` with its path. */
  readonly idempotency?: { readonly key: string; readonly path: string } | undefined;
  readonly signal: AbortSignal;
}

const IDEMPOTENCY_TTL_MS = 24 * 3600_000;
const ACCEPT_TIMEOUT_MS = 5000;

/** Takes runs in, stores them, and sees to it that they get to their link. */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly workers: RunWorkers;
  /** Callers that still wait for the daemon's word on their run. */
  readonly #waiting = new Map<string, Deferred<void>>();

  constructor(options: DispatcherOptions) {
    this.#options = options;
    const { store, runLog, log, now, random } = options;
    this.workers = new RunWorkers({
      store,
      runLog,
      reach: () => options.reach,
      log,
      now,
      random,
      onAccepted: (runId) => this.#waiting.get(runId)?.resolve(),
      onRefused: (runId, error) => this.#refuse(runId, error),
    });
  }

  /**
   * Stores a run, sends it to a link, and waits a moment for the daemon's own answer.
   *
   * @throws DecoError unknown_harness, thread_pinned, idempotency_key_reused, and those of
   *   {@link chooseLink}; the daemon's own refusal when it comes in time.
   */
  async create(request: DispatchRequest): Promise<Dispatched> {
    const { body } = request;
    if (!HARNESSES.some((name) => name === body.harness)) {
      throw new DecoError("unknown_harness", `there is no harness "${body.harness.slice(0, 64)}"`);
    }
    const run = this.#options.store.transaction(
      () => this.#repeated(request) ?? this.#store(request),
    );
    await this.#answered(run, request.signal);
    const { runId, linkId, status } = this.#options.store.runs.get(run.runId) ?? run;
    return { runId, linkId, status };
  }

  #repeated({ user, body, idempotency }: DispatchRequest): RunRow | undefined {
    if (idempotency === undefined) return undefined;
    const { store, now } = this.#options;
    const known = store.idempotency.get({ user, ...idempotency }, now());
    if (known === undefined) return undefined;
    if (known.bodyHash !== bodyHash(body)) {
      throw new DecoError("idempotency_key_reused", "this Idempotency-Key came with another body");
    }
    return store.runs.get(known.runId);
  }

  #store({ user, body: asked, idempotency }: DispatchRequest): RunRow {
    const { store, presence, reach, now } = this.#options;
    const thread = asked.thread === undefined ? undefined : store.threads.get(user, asked.thread);
    const body = applyPins(asked, thread);
    const link = chooseLink({
      store,
      presence,
      reach,
      user,
      body,
      preferred: linksOfThread(thread),
    });
    const runId = `run_${randomUUID()}`;
    const createdAt = now();
    const run = newRun({
      runId,
      user,
      linkId: link.linkId,
      createdAt,
      thread: body.thread,
      branch: body.branch,
      harness: body.harness,
      prompt: body.prompt,
      body: JSON.stringify(dispatchBody(runId, user, body)),
    });
    store.runs.put(run);
    pinThread(store, body, run);
    if (idempotency !== undefined) {
      const expiresAt = createdAt + IDEMPOTENCY_TTL_MS;
      store.idempotency.put(
        { user, ...idempotency },
        { bodyHash: bodyHash(asked), runId, expiresAt },
      );
    }
    this.#waiting.set(runId, deferred());
    return run;
  }

  /** Starts the work; a caller with the same Idempotency-Key waits for the same word. */
  async #answered(run: RunRow, signal: AbortSignal): Promise<void> {
    const word = this.#waiting.get(run.runId);
    this.workers.start(run.runId, run.linkId);
    if (word === undefined) return;
    if (this.#options.reach.get(run.linkId) === undefined) {
      // Queued for a link that is away: its word comes when it is back, to nobody who waits.
      this.#waiting.delete(run.runId);
      return;
    }
    const over = new AbortController();
    try {
      const timeout = this.#options.acceptTimeoutMs ?? ACCEPT_TIMEOUT_MS;
      await Promise.race([
        word.promise,
        sleep(timeout, over.signal),
        sleepUntil(signal, over.signal),
      ]);
    } finally {
      over.abort();
      this.#waiting.delete(run.runId);
    }
  }

  /** The daemon said no while the caller waits: the run never was, and its key is free again. */
  #refuse(runId: string, error: DecoError): boolean {
    const word = this.#waiting.get(runId);
    const { store } = this.#options;
    const run = store.runs.get(runId);
    if (word === undefined || run === undefined) return false;
    store.transaction(() => {
      if (run.thread !== undefined) store.threads.removeOfRun(run.user, run.thread, runId);
      store.idempotency.removeOfRun(runId);
      store.runs.remove(runId);
    });
    word.promise.catch(() => undefined);
    word.reject(error);
    return true;
  }

  /** Ends what a revoked link will never finish: nobody waits for it for ever (LESSONS 19). */
  abandon(linkId: string): void {
    const { store, runLog } = this.#options;
    const error = new DecoError("revoked", "the link was revoked before the run ended");
    for (const { runId } of store.runs.unsettled(linkId)) failRun(runLog, runId, error, "hub");
  }

  /** Durable first; at once when the link is there, else with its next heartbeat. */
  cancel(run: RunRow): RunRow {
    if (isEnded(run.status)) return run;
    const { runLog, reach, log } = this.#options;
    const changed = runLog.update(run.runId, (row) => ({ ...row, cancelRequested: true })) ?? run;
    const way = reach.get(run.linkId);
    if (way !== undefined && changed.accepted) {
      deliverCancel(way.client, changed, way.route.signal).catch((error: unknown) => {
        const { code } = DecoError.from(error);
        log.warn({ runId: run.runId, code }, "cancel not delivered, goes with the next heartbeat");
      });
    }
    return changed;
  }

  /**
   * The way to the files of a run's sandbox.
   *
   * @throws DecoError link_offline; sandbox_not_found as long as it has none
   */
  filesOf(run: RunRow): { client: ControlClient; path: string } {
    const handle = run.facts.sandbox?.["handle"];
    if (typeof handle !== "string") {
      throw new DecoError("sandbox_not_found", "the run has no sandbox yet", {
        fix: "Wait for its event sandbox.ready.",
      });
    }
    const way = this.#options.reach.get(run.linkId);
    if (way === undefined) throw new DecoError("link_offline", "the run's link is away");
    return { client: way.client, path: `/v1/sandboxes/${handle}` };
  }

  /**
   * Hands a user's answer to a waiting run.
   *
   * @throws DecoError link_offline, run_not_waiting when it ended; the daemon's own refusal.
   */
  async answer(
    run: RunRow,
    verb: "input" | "approve" | "deny",
    fields: Readonly<Record<string, unknown>>,
    signal: AbortSignal,
  ): Promise<void> {
    if (isEnded(run.status)) throw new DecoError("run_not_waiting", `the run is ${run.status}`);
    const way = this.#options.reach.get(run.linkId);
    if (way === undefined) throw new DecoError("link_offline", "the run's link is away");
    const body = JSON.stringify({ attempt: run.attempt, ...fields });
    await way.client.call({ method: "POST", path: `/v1/runs/${run.runId}/${verb}`, body, signal });
  }
}

function dispatchBody(runId: string, user: string, body: CreateRun): DispatchRun {
  const { link: _link, ...rest } = body;
  return { runId, attempt: 1, user, ...rest };
}

function bodyHash(body: CreateRun): string {
  return createHash("sha256")
    .update(JSON.stringify(sorted(body)))
    .digest("hex");
}

/** Members in one order, so that the same object in another order is the same body. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([name, member]) => [name, sorted(member)]));
}

function sleepUntil(signal: AbortSignal, over: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    const done = () => {
      signal.removeEventListener("abort", done);
      resolve();
    };
    signal.addEventListener("abort", done, { once: true });
    over.addEventListener("abort", done, { once: true });
  });
}
