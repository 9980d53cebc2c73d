import type Dockerode from "dockerode";
import { DecoError } from "../../../../protocol/errors.ts";
import { untilAbort } from "../../../until-abort.ts";
import { type EngineWhere, type FoundEngine, findEngine, type Machine } from "./find-engine.ts";

/** A connection to one Docker engine; every call has a deadline and typed errors. */
export interface Engine {
  /**
   * One call. `deadlineMs` is 20,000 when absent.
   *
   * @throws docker_unavailable when the engine is not reached, or too slow; sandbox_failed when it
   * refused (its status in `extensions.status`)
   */
  call<T>(
    what: string,
    work: (docker: Dockerode, signal: AbortSignal) => Promise<T>,
    options: { signal: AbortSignal; deadlineMs?: number },
  ): Promise<T>;
  /** Where it is reached, for messages. */
  readonly address: string;
  /** How it was found; undefined before the first call. */
  readonly found: FoundEngine | undefined;
}

const DEADLINE_MS = 20_000;

/**
 * Connects lazily: dockerode is imported, and the engine looked for, at the first call. One that was
 * found is kept: another would know nothing of what this one runs.
 */
export function dockerEngine(
  where: EngineWhere = {},
  callTimeoutMs = DEADLINE_MS,
  machine?: Machine,
): Engine {
  let docker: Promise<Dockerode> | undefined;
  let found: FoundEngine | undefined;
  const connect = async () => {
    found = await findEngine(where, machine);
    // A socket that appears later must be found then.
    if (!found.sure) docker = undefined;
    const { default: Docker } = await import("dockerode");
    return new Docker(found.options);
  };
  const addressOf = () => found?.address ?? where.dockerHost ?? "the default sockets";
  return {
    get address() {
      return addressOf();
    },
    get found() {
      return found;
    },
    async call(what, work, { signal, deadlineMs = callTimeoutMs }) {
      signal.throwIfAborted();
      await using limit = limitOf(signal, deadlineMs);
      try {
        docker ??= connect();
        const client = await docker.catch((thrown: unknown) => {
          docker = undefined;
          throw thrown;
        });
        const within = limit.signal;
        within.throwIfAborted();
        return await untilAbort(work(endingWith(client, within), within), within);
      } catch (thrown) {
        signal.throwIfAborted();
        if (!limit.passed()) throw engineError(thrown, what, addressOf());
        const detail = `${addressOf()} did not answer (${what}) within ${deadlineMs} ms`;
        throw new DecoError("docker_unavailable", detail, { cause: thrown });
      }
    },
  };
}

/**
 * Aborts with `outer`, or after so long. Nothing of it is left when it is disposed: `AbortSignal.timeout`
 * would hold what it reaches until it fires, a minute for some calls.
 */
function limitOf(outer: AbortSignal, ms: number) {
  const limit = new AbortController();
  let passed = false;
  const timer = setTimeout(() => {
    passed = true;
    limit.abort(new DOMException("the engine's time is over", "TimeoutError"));
  }, ms);
  const onAbort = () => limit.abort(outer.reason);
  outer.addEventListener("abort", onAbort, { once: true });
  return {
    signal: limit.signal,
    passed: () => passed,
    [Symbol.asyncDispose]: async () => {
      clearTimeout(timer);
      outer.removeEventListener("abort", onAbort);
    },
  };
}

/**
 * The same client, whose requests end with `signal`. Without it each call that was given up would hold
 * a connection for as long as an engine that hangs has it.
 */
function endingWith(docker: Dockerode, signal: AbortSignal): Dockerode {
  const { modem: plain } = docker;
  const dial: typeof plain.dial = (options, done) =>
    plain.dial({ ...options, abortSignal: options.abortSignal ?? signal }, done);
  const modem: unknown = Object.create(plain, { dial: { value: dial } });
  const bound: Dockerode = Object.create(docker, { modem: { value: modem } });
  return bound;
}

/** HTTP status with which the engine refused, if it did. */
export function refusedStatus(thrown: unknown): number | undefined {
  const status = thrown instanceof DecoError ? thrown.extensions["engineStatus"] : undefined;
  return typeof status === "number" ? status : undefined;
}

/** Awaits `work`, and gives undefined where the engine says "no such thing". */
export async function orMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (thrown) {
    if (refusedStatus(thrown) === 404) return undefined;
    throw thrown;
  }
}

interface EngineFailure {
  readonly statusCode?: unknown;
  readonly code?: unknown;
  readonly message?: unknown;
  readonly json?: unknown;
}

const DISK_FULL =
  "The engine's disk is full: see `docker system df`, make room (`docker system prune`), run it again.";

function engineError(thrown: unknown, what: string, address: string): DecoError {
  if (thrown instanceof DecoError) return thrown;
  const failure: EngineFailure = typeof thrown === "object" && thrown !== null ? thrown : {};
  const said = typeof failure.message === "string" ? failure.message : String(thrown);
  if (typeof failure.statusCode === "number") {
    return new DecoError("sandbox_failed", `Docker refused to ${what}: ${said.trim()}`, {
      cause: thrown,
      extensions: { engineStatus: failure.statusCode },
      // The engine says it in words alone; only the advice depends on them.
      ...(/no space left on device/i.test(said) ? { fix: DISK_FULL } : {}),
    });
  }
  const denied = failure.code === "EACCES" || failure.code === "EPERM";
  return new DecoError("docker_unavailable", `${address} can't be reached (${what}): ${said}`, {
    cause: thrown,
    ...(denied
      ? { fix: "Add your user to the docker group (`sudo usermod -aG docker $USER`), log in anew." }
      : {}),
  });
}
