import { access, constants } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type Dockerode from "dockerode";
import { DecoError } from "../../../protocol/errors.ts";
import { untilAbort } from "../../until-abort.ts";

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
}

const DEADLINE_MS = 20_000;

/**
 * Connects lazily: dockerode is imported, and the socket looked for, at the first call.
 *
 * @param dockerHost value of DOCKER_HOST; undefined: the usual sockets
 */
export function dockerEngine(dockerHost: string | undefined, callTimeoutMs = DEADLINE_MS): Engine {
  let docker: Promise<Dockerode> | undefined;
  let address = dockerHost ?? "the default sockets";
  const connect = async () => {
    const target = await findTarget(dockerHost);
    address = target.address;
    const { default: Docker } = await import("dockerode");
    return new Docker(target.options);
  };
  return {
    get address() {
      return address;
    },
    async call(what, work, { signal, deadlineMs = callTimeoutMs }) {
      signal.throwIfAborted();
      const deadline = AbortSignal.timeout(deadlineMs);
      const both = AbortSignal.any([signal, deadline]);
      try {
        docker ??= connect();
        const client = await docker.catch((thrown: unknown) => {
          // A socket that appears later must be found then.
          docker = undefined;
          throw thrown;
        });
        return await untilAbort(work(client, both), both);
      } catch (thrown) {
        signal.throwIfAborted();
        if (!deadline.aborted) throw engineError(thrown, what, address);
        const detail = `${address} did not answer (${what}) within ${deadlineMs} ms`;
        throw new DecoError("docker_unavailable", detail, { cause: thrown });
      }
    },
  };
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

interface Target {
  readonly options: Dockerode.DockerOptions;
  readonly address: string;
}

async function findTarget(dockerHost: string | undefined): Promise<Target> {
  if (dockerHost !== undefined && dockerHost !== "") return parseHost(dockerHost);
  const home = homedir();
  const runtime = `/run/user/${process.getuid?.() ?? 0}`;
  const candidates = [
    "/var/run/docker.sock",
    join(home, ".docker/run/docker.sock"),
    join(home, ".orbstack/run/docker.sock"),
    join(home, ".colima/default/docker.sock"),
    join(runtime, "docker.sock"),
  ];
  for (const path of candidates) {
    const usable = await access(path, constants.R_OK | constants.W_OK).then(
      () => true,
      () => false,
    );
    if (usable) return socketTarget(path);
  }
  return socketTarget(
    process.platform === "win32" ? "//./pipe/docker_engine" : (candidates[0] ?? ""),
  );
}

/** An empty host keeps dockerode from taking another one out of the environment. */
const socketTarget = (path: string): Target => ({
  options: { socketPath: path, host: "" },
  address: path,
});

function parseHost(dockerHost: string): Target {
  const unix = /^(?:unix|npipe):\/\/(.+)$/.exec(dockerHost)?.[1];
  if (unix !== undefined) return socketTarget(unix);
  const url = URL.canParse(dockerHost) ? new URL(dockerHost) : undefined;
  const local = ["localhost", "127.0.0.1", "[::1]"];
  if (url === undefined || !/^(tcp|https?):$/.test(url.protocol) || !local.includes(url.hostname)) {
    throw new DecoError("docker_unavailable", `DOCKER_HOST ${dockerHost} is not on this machine`, {
      fix: "Sandboxes run on this laptop: unset DOCKER_HOST, or point it to a local engine.",
    });
  }
  const tls = url.protocol === "https:" || url.port === "2376";
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return {
    options: { host, port: url.port || "2375", protocol: tls ? "https" : "http" },
    address: dockerHost,
  };
}
