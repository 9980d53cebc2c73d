import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DecoError } from "../../../../protocol/errors.ts";
import { outOfMemory } from "../../../out-of-memory.ts";
import type { HarnessEndpoint, SandboxInfo } from "../../../provider.ts";
import { awaitReady } from "../../../ready.ts";
import {
  type RunDir,
  renewRunDir,
  type SandboxRecord,
  sealRunDir,
  writeRecord,
} from "../../../run-dir.ts";
import { refusedStatus } from "../engine/engine.ts";
import { type DockerSetup, type Job, look } from "../job.ts";
import { checkWorkspace } from "../life/preflight.ts";
import { startAdvice } from "./advice.ts";
import { type ContainerLook, containerLogs, infoOf } from "./look.ts";
import { ownPids } from "./processes.ts";

/** A crash loop is no more than that: what is not up by then is given up (LESSONS 26). */
const TRIES = 3;
const RETRY_IN_MS = 300;

/**
 * Starts the container and waits until harnessd answers; one that ends before is started again.
 *
 * @throws sandbox_failed with exit code, tries and the last 20 lines; out_of_memory, config_missing
 */
export async function startAndWait(job: Job, record: SandboxRecord): Promise<SandboxInfo> {
  const { setup, handle, signal } = job;
  await checkWorkspace(job);
  for (let tries = 1; ; tries++) {
    try {
      return await startOnce(job, record);
    } catch (thrown) {
      signal.throwIfAborted();
      if (!(thrown instanceof CrashError)) throw thrown;
      if (tries === TRIES) throw thrown.told(tries);
      setup.log.info({ handle, exitCode: thrown.exitCode }, "it ended before it was ready: again");
    }
    await sleep(RETRY_IN_MS * tries, undefined, { signal });
    // Its harnessd may have taken the token.
    await renewRunDir(job.dir, record);
  }
}

async function startOnce(job: Job, record: SandboxRecord): Promise<SandboxInfo> {
  const { setup, stages, names, signal } = job;
  await stages.run("boot", async () => {
    await setup.engine.call(
      "start a container",
      (docker) => docker.getContainer(names.container).start(),
      { signal, deadlineMs: 60_000 },
    );
  });
  const timeoutMs = job.wanted.readyBudgetMs ?? setup.readyTimeoutMs;
  try {
    return await stages.run("ready", () => waitUntilReady(job, record, { timeoutMs }));
  } catch (thrown) {
    signal.throwIfAborted();
    throw await withLastLines(job, thrown);
  }
}

/** It runs, and is silent: what it printed tells why. */
async function withLastLines(job: Job, thrown: unknown): Promise<unknown> {
  const isLate =
    DecoError.from(thrown).code === "sandbox_failed" && !(thrown instanceof CrashError);
  if (!isLate || refusedStatus(thrown) !== undefined) return thrown;
  const log = await lastLines(job, job.names.container, job.signal);
  return new DecoError("sandbox_failed", `${DecoError.from(thrown).message}: ${log}`, {
    cause: thrown,
    extensions: { log },
    fix: startAdvice(job.wanted),
  });
}

async function lastLines({ setup }: Job, name: string, signal: AbortSignal): Promise<string> {
  const read = containerLogs(setup.engine, { name, lines: 20, signal });
  return (await read.catch(() => "")).trim();
}

/**
 * Waits for a started container, and notes what its harnessd says of itself.
 *
 * @throws also harness_unreachable, when `refusedMs` is given
 */
export async function waitUntilReady(
  job: Job,
  record: SandboxRecord,
  o: { timeoutMs: number; refusedMs?: number },
) {
  const { setup, dir, signal } = job;
  const started = await running(job, signal);
  const ready = await awaitReady({
    endpoints: endpointsOf(started, record, dir),
    life: (s) => running(job, s),
    ...o,
    signal,
  });
  const { life: now, harnesses } = ready;
  const [spared] = await Promise.all([sparedPids(setup, { record, now, signal }), sealRunDir(dir)]);
  const known: SandboxRecord = { ...record, harnesses, extra: { ...record.extra, ...spared } };
  await writeRecord(dir, known);
  return infoOf(now, known);
}

/** Notes who init and harnessd are at the beginning of a life, when nothing else runs inside. */
async function sparedPids(
  setup: DockerSetup,
  o: { record: SandboxRecord; now: ContainerLook; signal: AbortSignal },
): Promise<Record<string, unknown>> {
  const { now } = o;
  if (o.record.extra["startedAt"] === now.startedAt) return {};
  const pids = await ownPids(setup.engine, now, o.signal);
  return { sparedPids: pids, startedAt: now.startedAt };
}

/** Every way in that the sandbox has; the socket first. */
function endpointsOf(
  found: ContainerLook,
  { token, uid, extra }: SandboxRecord,
  dir: RunDir,
): [HarnessEndpoint, ...HarnessEndpoint[]] {
  const socket = { socketPath: join(dir.run, "harnessd.sock"), socketUid: uid, token };
  if (found.port === undefined) return [socket];
  const port = { url: `http://127.0.0.1:${found.port}`, token };
  return extra["transport"] === "gateway" ? [port] : [socket, port];
}

/** The container while it runs; a crash is told with its exit code and last lines. */
async function running(job: Job, signal: AbortSignal): Promise<ContainerLook> {
  const found = await look(job, signal);
  if (found === undefined) {
    throw new DecoError("sandbox_lost", `the container of ${job.handle} disappeared`);
  }
  if (found.status === "running") return found;
  const log = await lastLines(job, found.id, signal);
  if (found.oomKilled) throw outOfMemory(`before it was ready: ${log}`, found.memoryMib);
  throw new CrashError({ exitCode: found.exitCode, log, fix: startAdvice(job.wanted) });
}

interface Crash {
  readonly exitCode: number;
  readonly log: string;
  readonly fix: string;
}

/** A container that ended before it was ready. */
class CrashError extends DecoError {
  readonly exitCode: number;
  readonly #crash: Crash;

  constructor(crash: Crash, tries = 1) {
    const { exitCode, log, fix } = crash;
    const often = tries === 1 ? "" : `, ${tries} times in a row`;
    const detail = `the sandbox ended with exit code ${exitCode} before it was ready${often}: ${log}`;
    super("sandbox_failed", detail, { extensions: { exitCode, log, tries }, fix });
    this.exitCode = exitCode;
    this.#crash = crash;
  }

  told(tries: number): CrashError {
    return new CrashError(this.#crash, tries);
  }
}
