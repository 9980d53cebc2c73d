import { deferred } from "../protocol/deferred.ts";
import { DecoError } from "../protocol/errors.ts";
import { closeProviders, closeSandboxes, type KeptSandbox } from "./close-sandboxes.ts";
import { closers } from "./closers.ts";
import type { Config } from "./config.ts";
import { wipeLinkRecord } from "./credentials.ts";
import { hubApi } from "./hub-api.ts";
import { wipeIdentity } from "./identity.ts";
import { serveLocal, serveSigned } from "./local-api.ts";
import { type HomeLock, takeLock } from "./lock.ts";
import { type Log, silentLog } from "./log.ts";
import { daemonFacts } from "./main-facts.ts";
import { linkParts } from "./main-link.ts";
import { buildParts, type DaemonParts } from "./main-parts.ts";
import { makePaths, removeShortRuntime } from "./paths.ts";
import type { StatusSnapshot } from "./status.ts";
import { supervise } from "./supervise.ts";
import { type WakeWatchOptions, watchWake } from "./supervise-wake.ts";

export interface StartDaemonOptions {
  /** With `hub` set. */
  readonly config: Config;
  /** The home's lock when the caller holds it already; it stays the caller's. */
  readonly lock?: HomeLock;
  readonly log?: Log;
  /** Runs as a service: a refused registration is waited out instead of ending the daemon. */
  readonly service?: boolean;
  /** Address of the page, for `deco status` and for whoever finds this home taken. */
  readonly page?: string;
  /** Drains, then closes. */
  readonly signal?: AbortSignal;
  /** How a sleep of the laptop is noticed; its own clocks when absent. */
  readonly clocks?: Omit<WakeWatchOptions, "onWake">;
}

export interface DaemonEnd {
  /** 0 after a clean stop, else as the error's code says. */
  readonly exitCode: number;
  readonly error?: DecoError;
  /** Sandboxes that stay: those of threads, and where a run goes on. */
  readonly kept?: readonly KeptSandbox[];
}

export interface RunningDaemon extends AsyncDisposable {
  readonly socketPath: string;
  /** Address of the signed control plane, where it listens on TCP. */
  readonly controlUrl?: string;
  status(): StatusSnapshot;
  /** Resolves when the link is online for the first time; rejects when it ends before. */
  readonly ready: Promise<void>;
  /** Resolves when everything is closed; never rejects. */
  readonly closed: Promise<DaemonEnd>;
  /**
   * Takes no more work and waits for what runs; resolves with the number of runs left, which go on
   * in their sandboxes for the next daemon. The grace is the setting `drainSeconds` when absent.
   */
  drain(graceMs?: number): Promise<number>;
  /** Ends the link and puts runs down as they are, for the next daemon of this home. */
  close(): Promise<void>;
}

const DEFAULT_CONTROL_PORT = 5174;
const LOOK_EVERY_MS = 60_000;

/**
 * Builds and starts the daemon of one home. The only place of the daemon that makes objects.
 *
 * @throws DecoError `already_running`, `usage` (no hub, http off loopback), `port_in_use`,
 *   `storage_failed`
 */
export async function startDaemon(options: StartDaemonOptions): Promise<RunningDaemon> {
  const { config, log = silentLog } = options;
  const { paths } = config;
  const hub = hubApi({ hubUrl: config.hub ?? "", insecure: config.insecure });
  await makePaths(paths);
  const closing = closers();
  try {
    const lock = options.lock ?? closing.use(await takeLock(paths));
    closing.add(() => removeShortRuntime(paths));
    // Once more: the one before may have taken its runtime folder away just now.
    await makePaths(paths);
    const facts = daemonFacts({ config, hub: hub.origin, page: options.page });
    const parts = await buildParts({
      config,
      log,
      status: facts.snapshot,
      onOfferChange: () => facts.news.ring(),
    });
    closing.add(async () => parts.journal.close());
    facts.parts = parts;
    closing.use(await serveLocal(parts.app, paths.controlSocket));
    const port = config.port ?? (config.tunnel ? undefined : DEFAULT_CONTROL_PORT);
    const tcp =
      port === undefined ? undefined : closing.use(await serveSigned(parts.signedApp, port));
    facts.controlUrl = tcp?.url;
    await lock.publish({
      pid: process.pid,
      startedAt: new Date(facts.startedAtMs).toISOString(),
      socket: paths.controlSocket,
      ...(options.page === undefined ? {} : { page: options.page }),
    });
    await parts.offer.refresh(new AbortController().signal);
    parts.executor.resumeAll();
    return run({ ...options, log, hub, facts, parts, closing, controlUrl: tcp?.url });
  } catch (error) {
    await closing.close();
    throw error;
  }
}

interface RunOptions extends StartDaemonOptions {
  readonly log: Log;
  readonly hub: ReturnType<typeof hubApi>;
  readonly facts: ReturnType<typeof daemonFacts>;
  readonly parts: DaemonParts;
  readonly closing: ReturnType<typeof closers>;
  readonly controlUrl: string | undefined;
}

/** From here on everything stands; only the link comes and goes. */
function run(options: RunOptions): RunningDaemon {
  const { config, facts, parts, closing, controlUrl } = options;
  const stop = new AbortController();
  const closed = deferred<DaemonEnd>();
  const ready = deferred();
  // Whoever does not wait for it shall not be ended by its rejection.
  ready.promise.catch(() => {});
  const watching = watch(options, stop.signal);
  const finish = async (error?: DecoError) => {
    watching[Symbol.dispose]();
    ready.reject(error ?? new DecoError("draining", "the daemon was closed before it was online"));
    const kept = await shutDown(options, error);
    await closing.close();
    const stays = kept.length === 0 ? {} : { kept };
    const end = error ? { exitCode: error.info.exit ?? 1, error } : { exitCode: 0 };
    closed.resolve({ ...end, ...stays });
  };
  link(options, stop.signal, ready.resolve)
    .then(
      () => finish(),
      (thrown: unknown) => finish(DecoError.from(thrown)),
    )
    .catch((thrown: unknown) => closed.resolve({ exitCode: 1, error: DecoError.from(thrown) }));
  const drain = async (graceMs = config.drainSeconds * 1000) => {
    const untilMs = Date.now() + graceMs;
    facts.drainUntilMs = untilMs;
    facts.news.ring();
    const left = await parts.executor.drain(graceMs);
    await untilTold(options, untilMs - Date.now());
    return left;
  };
  const close = async () => {
    stop.abort(new DecoError("draining", "the daemon leaves"));
    await closed.promise;
  };
  leaveOnSignal(options, () => drain().then(close));
  return {
    socketPath: config.paths.controlSocket,
    ...(controlUrl === undefined ? {} : { controlUrl }),
    status: facts.snapshot,
    ready: ready.promise,
    closed: closed.promise,
    drain,
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** What is done by the clock: providers and sandboxes are looked at, a sleep of the laptop is told. */
function watch({ log, parts, clocks }: RunOptions, signal: AbortSignal): Disposable {
  const tend = async () => {
    await parts.reconcile.once(signal);
    const chosen = parts.offer.defaultProvider();
    for (const provider of holders(parts)) {
      await provider.prepare?.({ ahead: provider.name === chosen }, signal);
    }
  };
  const look = async () => {
    await parts.offer.refresh(signal);
    await tend();
  };
  const failed = (error: unknown) => {
    if (!signal.aborted) log.warn({ err: error }, "looking around failed; again in a minute");
  };
  // The providers were just looked at.
  tend().catch(failed);
  const looking = setInterval(() => void look().catch(failed), LOOK_EVERY_MS);
  const wake = watchWake({
    ...clocks,
    onWake: (sleptMs) => {
      log.info({ sleptMs: Math.round(sleptMs) }, "the laptop slept; its runs say so");
      parts.executor.slept(sleptMs);
    },
  });
  return {
    [Symbol.dispose]: () => {
      clearInterval(looking);
      wake[Symbol.dispose]();
    },
  };
}

/** The link, until `signal` aborts or the hub ends it for good. */
async function link(
  { config, service, log, hub, facts, parts, controlUrl }: RunOptions,
  signal: AbortSignal,
  onOnline: () => void,
): Promise<void> {
  await supervise({
    ...linkParts({
      config,
      hub,
      identity: parts.identity,
      clock: parts.clock,
      app: parts.signedApp,
      facts: facts.heartbeat,
      onCancel: (runId) => cancelRun(parts, log, runId),
      onBeat: facts.beat,
      onMissed: (error) => {
        facts.missedHeartbeat = error;
        log.warn({ err: error }, "the hub did not take a heartbeat; the next one comes soon");
      },
      tunnelUrl: config.tunnel ? undefined : controlUrl,
      news: facts.news,
      log,
    }),
    onSession: parts.useSession,
    onState: (state) => {
      facts.link = state;
      const error =
        "error" in state ? { code: state.error?.code, detail: state.error?.message } : {};
      log.info({ state: state.type, ...error }, "link");
      if (state.type === "online") onOnline();
    },
    news: facts.news,
    service: service ?? false,
    signal,
  });
}

/** A cancel that can't be done is no reason to lose the heartbeat that brought it. */
function cancelRun({ executor }: DaemonParts, log: Log, runId: string): void {
  try {
    executor.cancel(runId);
  } catch (error) {
    log.warn({ err: error, runId }, "the run was not cancelled; the hub asks again");
  }
}

const TELL_MS = { least: 1000, most: 5000 } as const;

/** Lets the hub have the ends of runs, while it can be reached: else they come with the next start. */
async function untilTold({ facts, parts }: RunOptions, leftMs: number): Promise<void> {
  if (facts.link.type !== "online") return;
  const ms = Math.min(TELL_MS.most, Math.max(TELL_MS.least, leftMs));
  await parts.journal.endsAcked(AbortSignal.timeout(ms)).catch(() => undefined);
}

/** An engine that undoes no sandbox in that time hangs; the next daemon reaps what is left. */
const END_ENSURES_MS = 15_000;

async function shutDown({ config, log, parts }: RunOptions, error?: DecoError) {
  const { executor, ensures } = parts;
  if (error?.code === "revoked") {
    await wipeIdentity(config.paths.machineFile);
    await wipeLinkRecord(config.paths.linkFile);
  }
  // From now on no run begins in what is about to be emptied.
  await executor.drain(0);
  await ensures.close(AbortSignal.timeout(END_ENSURES_MS));
  const kept = await closeSandboxes({
    providers: holders(parts),
    busy: (handle) => executor.isBusy(handle),
    remove: (provider, handle, signal) => executor.sandboxes.remove(provider, handle, signal),
    log,
  });
  await executor.close();
  await closeProviders(holders(parts), log);
  return kept;
}

/** Those that may hold something of ours. */
const holders = ({ providers, offer }: DaemonParts) =>
  [...providers.values()].filter(({ name }) => offer.mayHold(name));

function leaveOnSignal({ signal, log }: RunOptions, leave: () => Promise<void>): void {
  const begin = () => {
    leave().catch((error: unknown) => log.error({ err: error }, "leaving failed"));
  };
  if (signal?.aborted) begin();
  else signal?.addEventListener("abort", begin, { once: true });
}
