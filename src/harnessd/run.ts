import { setTimeout as sleep } from "node:timers/promises";
import { type Deferred, deferred } from "../protocol/deferred.ts";
import { DecoError } from "../protocol/errors.ts";
import type { Adapter } from "./adapters/adapter.ts";
import type { EventLog } from "./event-log.ts";
import { countProcesses, endProcesses, type ProcessScope, RUN_MARK } from "./processes.ts";
import type { RunRequest } from "./requests.ts";

/** What one run needs besides its request. */
export interface RunOptions {
  readonly runId: string;
  readonly request: RunRequest;
  readonly adapter: Adapter;
  readonly log: EventLog;
  readonly workspace: string;
  /** Folder of this run's log. */
  readonly folder: string;
  readonly baseEnv: Readonly<Record<string, string>>;
  modelBaseUrl(): Promise<string>;
  /** Whether a cancel may end all processes of the sandbox (no other run is active). */
  ownsSandbox(): boolean;
}

/** A run that goes on. */
export interface ActiveRun {
  /** Resolves when the terminal event is in the log. Never rejects. */
  readonly ended: Promise<void>;
  cancel(): void;
}

type Stop = "cancelled" | "timeout";

const TERM_GRACE_MS = 2000;
/** How long an adapter may take for its last events when its program has been ended. */
const ADAPTER_WAIT_MS = 2000;

/** Starts a run: exactly one terminal event comes of it, whatever happens. */
export function startRun(options: RunOptions): ActiveRun {
  const stop = new AbortController();
  const { timeout_seconds: seconds } = options.request;
  const timer =
    seconds === undefined
      ? undefined
      : setTimeout(() => stop.abort("timeout" satisfies Stop), seconds * 1000);
  const ended = execute(options, stop.signal).finally(() => clearTimeout(timer));
  return { ended, cancel: () => stop.abort("cancelled" satisfies Stop) };
}

async function execute(options: RunOptions, signal: AbortSignal): Promise<void> {
  const { log, request, runId } = options;
  let leader = 0;
  let ending: Promise<number> | undefined;
  const scope = (): ProcessScope => ({ leader, runId, everything: options.ownsSandbox() });
  const givenUp = deferred<never>();
  const endAll = () => {
    if (leader === 0 || ending) return;
    ending = endProcesses(scope(), TERM_GRACE_MS);
    void giveUp(ending, givenUp);
  };
  signal.addEventListener("abort", endAll, { once: true });
  log.append("run.started", startedPayload(options));
  let failure: DecoError | undefined;
  let completed: Readonly<Record<string, unknown>> = {};
  try {
    const finished = options.adapter.run({
      runId,
      request,
      workspace: options.workspace,
      scratch: options.folder,
      env: { ...options.baseEnv, ...request.env, [RUN_MARK]: runId },
      signal,
      emit: (type, payload) => log.append(type, payload),
      room: () => log.room(signal),
      modelBaseUrl: () => options.modelBaseUrl(),
      started: (pid) => {
        leader = pid;
        if (signal.aborted) endAll();
      },
    });
    completed = await Promise.race([finished, givenUp.promise]);
  } catch (error) {
    failure = DecoError.from(error, "harness_failed");
  }
  signal.removeEventListener("abort", endAll);
  if (signal.aborted) {
    const processesLeft = (await ending) ?? (leader > 0 ? await countProcesses(scope()) : 0);
    await endStopped(options, signal.reason, processesLeft);
    return;
  }
  if (failure) {
    if (failure.code === "storage_failed" && leader > 0) await endProcesses(scope(), 0);
    await log.end("run.failed", failedPayload(failure));
    return;
  }
  await log.end("run.completed", completed);
}

/** The adapter hears of its program's end by itself, unless the program can't be ended. */
async function giveUp(ending: Promise<number>, givenUp: Deferred<never>): Promise<void> {
  await ending;
  await sleep(ADAPTER_WAIT_MS, undefined, { ref: false });
  givenUp.promise.catch(() => undefined);
  givenUp.reject(new DecoError("harness_failed", "its program can't be ended"));
}

async function endStopped(options: RunOptions, why: unknown, processesLeft: number): Promise<void> {
  const { log, request } = options;
  if (why === "cancelled") return log.end("run.cancelled", { processesLeft });
  const detail = `it took longer than ${request.timeout_seconds} s`;
  const failure = new DecoError("budget_exceeded", detail, { extensions: { processesLeft } });
  await log.end("run.failed", failedPayload(failure));
}

function startedPayload({ runId, request }: RunOptions): Record<string, unknown> {
  return {
    schema_version: "1",
    conversation_id: runId,
    harness: request.harness,
    ...(request.model === undefined ? {} : { model: request.model }),
  };
}

/** Payload of `run.failed`; `error` repeats the detail where the public program has it. */
export function failedPayload(failure: DecoError): Record<string, unknown> {
  const { code, message, fix, extensions } = failure;
  return { ...extensions, code, leg: "harness", detail: message, error: message, fix };
}
