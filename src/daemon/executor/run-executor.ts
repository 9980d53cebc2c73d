import { DecoError } from "../../protocol/errors.ts";
import type { DispatchRun, HarnessName, ProviderName, RunState } from "../../protocol/messages.ts";
import type { SandboxProvider } from "../../sandbox/provider.ts";
import type { ResolvedSpec } from "../../sandbox/sandbox-spec.ts";
import { untilAbort } from "../../sandbox/until-abort.ts";
import { type RunRecord, toState } from "../journal/run-record.ts";
import { rulesPlaces, type SandboxRules, sandboxRules } from "../sandbox-rules.ts";
import { admit } from "./admission.ts";
import type { Executor, ExecutorOptions } from "./executor.ts";
import { handleOf, ownerOf } from "./handle-of.ts";
import { type ActiveRun, type LiveRun, newLiveRun } from "./live-run.ts";
import { isLost } from "./lost-sandbox.ts";
import type { ExecutorParts } from "./parts.ts";
import { adoptRun, performRun } from "./perform-run.ts";
import { failurePayload } from "./run-failure.ts";
import { RunSlots } from "./run-slots.ts";
import { createSandboxHost, type SandboxHost } from "./sandbox-host.ts";
import { saySlept } from "./say-slept.ts";

export type { Executor, ExecutorOptions } from "./executor.ts";

const DEFAULT_HARNESSES: readonly HarnessName[] = ["shell", "claude-code"];
/** No file is there: built-in templates, and a policy that grants nothing. */
const NO_FILES = sandboxRules(rulesPlaces("/dev/null"));

export function createExecutor(options: ExecutorOptions): Executor {
  return new RunExecutor(options);
}

class RunExecutor implements Executor {
  readonly sandboxes: SandboxHost;
  readonly #options: ExecutorOptions;
  readonly #rules: SandboxRules;
  readonly #parts: ExecutorParts;
  readonly #leaving = new AbortController();
  readonly #live = new Map<string, LiveRun>();
  #draining = false;
  #resumed = false;

  constructor(options: ExecutorOptions) {
    this.#options = options;
    this.#rules = options.rules ?? NO_FILES;
    const { journal, providers, modelProxy, limits, log, instanceId, now = Date.now } = options;
    this.sandboxes = createSandboxHost({ instanceId, modelProxy, log });
    this.#parts = {
      journal,
      providers,
      modelProxy,
      log,
      now,
      sandboxes: this.sandboxes,
      slots: new RunSlots(limits.maxRuns),
      leaving: this.#leaving.signal,
    };
  }

  dispatch(body: DispatchRun, { local } = { local: false }): RunState {
    const { journal } = this.#parts;
    const { runId, attempt } = body;
    const known = journal.record(runId);
    // What was promised is told again, whatever could be promised now.
    if (known && attempt <= known.attempt) return toState(journal.createRun(body).run);
    if (this.#draining) throw new DecoError("draining", "the daemon takes no new runs");
    const spec = this.#resolve(body, local);
    const provider = this.#admit(body, spec);
    this.resumeAll();
    const { run } = journal.createRun(body);
    if (!run.ended) this.#start(body, provider, spec);
    return toState(run);
  }

  cancel(runId: string, attempt?: number): void {
    const { journal } = this.#parts;
    if (journal.markCancel(runId, attempt) !== "marked") return;
    const newest = journal.record(runId)?.attempt ?? 0;
    this.#live.get(keyOf(runId, newest))?.stop("cancelled");
  }

  async input(runId: string, attempt: number, text: string, signal: AbortSignal): Promise<void> {
    const { client, runId: id } = this.#waiting(runId, attempt);
    await client.input(id, text, signal);
  }

  async approve(
    runId: string,
    attempt: number,
    decision: { callId?: string },
    signal: AbortSignal,
  ): Promise<void> {
    const { client, runId: id } = this.#waiting(runId, attempt);
    await client.approve(id, decision, signal);
  }

  async deny(
    runId: string,
    attempt: number,
    decision: { callId?: string; reason?: string },
    signal: AbortSignal,
  ): Promise<void> {
    const { client, runId: id } = this.#waiting(runId, attempt);
    await client.deny(id, decision, signal);
  }

  resumeAll(): void {
    if (this.#resumed) return;
    this.#resumed = true;
    for (const record of this.#parts.journal.unfinished()) {
      try {
        this.#resume(record);
      } catch (thrown) {
        // One that can't be read (another version's, damaged) must not keep the others.
        this.#fail(record, DecoError.from(thrown));
      }
    }
  }

  slept(sleptMs: number): void {
    for (const live of this.#live.values()) if (live.begun) saySlept(this.#parts, live, sleptMs);
  }

  active(): ActiveRun[] {
    return [...this.#live.values()].map(({ dispatch, handle, provider, begun }) => ({
      runId: dispatch.runId,
      attempt: dispatch.attempt,
      handle,
      provider: provider.name,
      begun,
    }));
  }

  isBusy(handle: string, owner?: string): boolean {
    const isOf = ({ dispatch }: LiveRun) => owner === undefined || ownerOf(dispatch) === owner;
    return [...this.#live.values()].some((live) => live.handle === handle && isOf(live));
  }

  async drain(graceMs: number): Promise<number> {
    this.#draining = true;
    this.#parts.slots.pause();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const grace = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([this.#done((live) => live.begun), grace]);
    clearTimeout(timer);
    return this.#live.size;
  }

  async endRunsIn(handle: string, signal: AbortSignal): Promise<void> {
    const inside = (live: LiveRun) => live.handle === handle;
    for (const { dispatch } of [...this.#live.values()].filter(inside)) {
      const { runId, attempt } = dispatch;
      // A lower attempt is being ended already.
      if (this.#parts.journal.record(runId)?.attempt === attempt) this.cancel(runId, attempt);
    }
    await untilAbort(this.#done(inside), signal);
  }

  async failLost(signal: AbortSignal): Promise<number> {
    const looks = [...this.#live.values()].map((live) => isLost(live, signal));
    return (await Promise.all(looks)).filter(Boolean).length;
  }

  async cancelAll(): Promise<void> {
    this.#draining = true;
    for (const { dispatch } of this.#live.values()) this.cancel(dispatch.runId, dispatch.attempt);
    await this.#done(() => true);
  }

  async close(): Promise<void> {
    this.#draining = true;
    for (const live of this.#live.values()) live.stop("leaving");
    this.#leaving.abort(new DecoError("draining", "the daemon leaves"));
    await this.#done(() => true);
    await this.sandboxes[Symbol.asyncDispose]();
  }

  async #done(which: (live: LiveRun) => boolean): Promise<void> {
    for (;;) {
      const left = [...this.#live.values()].filter(which);
      if (left.length === 0) return;
      await Promise.all(left.map((live) => live.done));
    }
  }

  #resolve({ sandbox, user, thread }: DispatchRun, local: boolean): ResolvedSpec {
    return this.#rules.resolve(sandbox ?? {}, { user, thread, local });
  }

  #admit(body: DispatchRun, spec: ResolvedSpec): SandboxProvider {
    const { providers, defaultProvider, checkProvider, harnesses } = this.#options;
    return admit(body, spec, {
      providers,
      defaultProvider,
      checkProvider: checkProvider ?? (() => undefined),
      harnesses: harnesses ?? DEFAULT_HARNESSES,
    });
  }

  #start(body: DispatchRun, provider: SandboxProvider, spec: ResolvedSpec): void {
    const live = newLiveRun(body, provider, { handle: handleOf(body, provider.name), spec });
    const before = this.#supersede(body.runId);
    this.#track(live, performRun(this.#parts, live, before));
  }

  #resume(record: RunRecord): void {
    const { runId, attempt } = record;
    const body = this.#parts.journal.dispatch(runId, attempt);
    const repeatable = record.phase === "queued" || record.phase === "provisioning";
    const spec = this.#resolveAgain(body, repeatable);
    if (spec instanceof DecoError) return this.#fail(record, spec);
    const name = record.provider ?? this.#providerOf(spec);
    const provider = name && this.#parts.providers.get(name);
    if (!provider) return this.#fail(record, lostProvider(name));
    const handle = record.handle ?? handleOf(body, provider.name);
    const live = newLiveRun(body, provider, { handle, spec });
    if (record.cancelRequested) live.stop("cancelled");
    live.touched = record.phase !== "queued";
    const before = this.#supersede(runId);
    const work = repeatable
      ? performRun(this.#parts, live, before)
      : adoptRun(this.#parts, live, record);
    this.#track(live, work);
  }

  /** Stops the lower attempts of a run; resolves when they are proven gone. */
  #supersede(runId: string): Promise<void> | undefined {
    const lower = [...this.#live.values()].filter((live) => live.dispatch.runId === runId);
    if (lower.length === 0) return undefined;
    for (const live of lower) live.stop("superseded");
    return Promise.all(lower.map((live) => live.done)).then(() => undefined);
  }

  /**
   * The owner may have changed a template or taken back a consent since the dispatch. What was told
   * to its harness goes on all the same. Whether it came over the laptop's own socket is not
   * journaled: then it counts as from nobody known.
   */
  #resolveAgain(body: DispatchRun, repeatable: boolean): ResolvedSpec | DecoError {
    try {
      return this.#resolve(body, false);
    } catch (thrown) {
      if (repeatable) return DecoError.from(thrown);
      const { env } = body.sandbox ?? {};
      return env === undefined ? {} : { env };
    }
  }

  #providerOf(spec: ResolvedSpec): ProviderName | undefined {
    if (spec.provider) return spec.provider;
    const name = this.#options.defaultProvider();
    return name instanceof DecoError ? undefined : name;
  }

  #fail(record: RunRecord, error: DecoError): void {
    const payload = failurePayload(error);
    this.#parts.journal.append(record.runId, record.attempt, [{ type: "run.failed", payload }]);
  }

  #track(live: LiveRun, work: Promise<void>): void {
    const { runId, attempt } = live.dispatch;
    const key = keyOf(runId, attempt);
    this.#live.set(key, live);
    live.done = work
      .catch((error: unknown) => {
        if (this.#leaving.signal.aborted) return;
        this.#parts.log.error({ err: error, runId, attempt }, "a run's loop broke; it fails");
        const payload = failurePayload(error);
        this.#parts.journal.append(runId, attempt, [{ type: "run.failed", payload }]);
      })
      .catch((error: unknown) => {
        this.#parts.log.error({ err: error, runId, attempt }, "its end is told after a restart");
      })
      .finally(() => {
        this.#live.delete(key);
        const { signal } = this.#leaving;
        if (!signal.aborted) this.#options.onLeft?.(live.handle, signal);
      });
  }

  /** The harness of a run that waits for its user. */
  #waiting(runId: string, attempt: number): NonNullable<LiveRun["harness"]> {
    const newest = this.#parts.journal.record(runId);
    if (!newest || attempt > newest.attempt) {
      throw new DecoError("run_not_found", `${runId} attempt ${attempt} is not here`);
    }
    if (attempt < newest.attempt) {
      throw new DecoError("attempt_stale", `${runId} is at attempt ${newest.attempt}`);
    }
    const harness = this.#live.get(keyOf(runId, attempt))?.harness;
    if (newest.status === "waiting" && harness) return harness;
    throw new DecoError("run_not_waiting", `${runId} is ${newest.status}`);
  }
}

function lostProvider(name = "provider of"): DecoError {
  return new DecoError("sandbox_lost", `after its restart the daemon has no ${name} sandboxes`);
}

function keyOf(runId: string, attempt: number): string {
  return `${runId}/${attempt}`;
}
