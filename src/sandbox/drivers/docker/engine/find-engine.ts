import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { untilAbort } from "../../../until-abort.ts";
import { currentContext, readContext, readTls } from "./docker-context.ts";
import { type EngineTarget, socketTarget, targetOf } from "./engine-target.ts";

/** Docker's own variables that count; see {@link ENGINE_VARIABLES}. */
export type DockerEnv = Readonly<Record<string, string | undefined>>;

/** What names an engine. Nothing of it: the usual sockets, behind the CLI's current context. */
export interface EngineWhere {
  /** The setting `--docker-host`, as in DOCKER_HOST. */
  readonly dockerHost?: string | undefined;
  readonly dockerEnv?: DockerEnv | undefined;
}

/** Where this machine keeps things; its own when absent. */
export interface Machine {
  readonly root?: string;
  readonly home?: string;
  readonly platform?: NodeJS.Platform;
  /** For an answer of one of the usual sockets; 3,000. */
  readonly pingMs?: number;
}

export interface FoundEngine extends EngineTarget {
  /** What led to it, in words. */
  readonly why: string;
  /** Sockets before it in the order that are there, with what they said instead of an answer. */
  readonly passedOver: readonly string[];
  /** False when it did not answer either, and nothing named it: look again with the next call. */
  readonly sure: boolean;
}

/** What the docker CLI reads of the environment, and where sockets of a user are. */
export const ENGINE_VARIABLES = [
  "DOCKER_HOST",
  "DOCKER_CONTEXT",
  "DOCKER_CONFIG",
  "DOCKER_TLS_VERIFY",
  "DOCKER_CERT_PATH",
  "XDG_RUNTIME_DIR",
] as const;

/**
 * The engine that the docker CLI would take: the setting or DOCKER_HOST, DOCKER_CONTEXT, the current
 * context; then the first of the usual sockets that answers. What is named is taken as it is.
 *
 * @throws docker_unavailable when what is named is not there, or is on another machine
 */
export async function findEngine(where: EngineWhere, machine: Machine = {}): Promise<FoundEngine> {
  const { dockerHost, dockerEnv: env = {} } = where;
  const configDir = env["DOCKER_CONFIG"] || join(machine.home ?? homedir(), ".docker");
  if (dockerHost) return named(await byHost(dockerHost, SETTING, env, configDir), SETTING);
  if (env["DOCKER_HOST"]) {
    return named(await byHost(env["DOCKER_HOST"], "DOCKER_HOST", env, configDir), "DOCKER_HOST");
  }
  if (env["DOCKER_CONTEXT"] === "default") {
    return named(firstOf(usualSockets(env, machine)), "DOCKER_CONTEXT=default");
  }
  if (env["DOCKER_CONTEXT"]) {
    return await byContext(configDir, env["DOCKER_CONTEXT"], "DOCKER_CONTEXT");
  }
  const current = await currentContext(configDir);
  if (current !== undefined) {
    return await byContext(configDir, current, join(configDir, "config.json"));
  }
  return await firstThatAnswers(usualSockets(env, machine), machine.pingMs ?? 3_000);
}

export interface UsualSocket {
  readonly path: string;
  readonly of: string;
}

/** In the order in which they are tried; Podman, whose socket is only nearly Docker's, comes last. */
export function usualSockets(env: DockerEnv, machine: Machine = {}): UsualSocket[] {
  const { root = "/", home = homedir(), platform = process.platform } = machine;
  if (platform === "win32") return [{ path: "//./pipe/docker_engine", of: "the default pipe" }];
  const runtime = env["XDG_RUNTIME_DIR"] || join(root, `run/user/${process.getuid?.() ?? 0}`);
  return [
    { path: join(root, "var/run/docker.sock"), of: "the default socket" },
    { path: join(home, ".docker/run/docker.sock"), of: "Docker Desktop's socket" },
    { path: join(home, ".docker/desktop/docker.sock"), of: "Docker Desktop's socket" },
    { path: join(home, ".orbstack/run/docker.sock"), of: "OrbStack's socket" },
    { path: join(home, ".colima/default/docker.sock"), of: "Colima's socket" },
    { path: join(home, ".config/colima/default/docker.sock"), of: "Colima's socket" },
    { path: join(runtime, "docker.sock"), of: "the socket of a rootless engine" },
    { path: join(runtime, "podman/podman.sock"), of: "the socket of a rootless Podman" },
    { path: join(root, "run/podman/podman.sock"), of: "Podman's socket" },
  ];
}

const SETTING = "the setting docker-host";

const REMOTE_FIX =
  "Sandboxes run on this machine, with its folders: name an engine of it (unix:///path/docker.sock).";

async function byHost(host: string, from: string, env: DockerEnv, configDir: string) {
  const behindTls = Boolean(env["DOCKER_TLS_VERIFY"]);
  const tls = behindTls ? await readTls(env["DOCKER_CERT_PATH"] || configDir) : undefined;
  const fix = from === SETTING ? REMOTE_FIX : `Unset ${from}, or: ${REMOTE_FIX}`;
  return targetOf(host, { from, fix, ...(behindTls ? { tls: tls ?? {} } : {}) });
}

async function byContext(configDir: string, name: string, from: string): Promise<FoundEngine> {
  const { host, tls } = await readContext(configDir, name);
  const fix =
    "Choose a context of this machine: `docker context use default`, or set --docker-host.";
  const why = `the Docker context ${name} of ${from}`;
  return named(targetOf(host, { from: why, fix, tls }), why);
}

const named = (target: EngineTarget, why: string): FoundEngine => ({
  ...target,
  why,
  passedOver: [],
  sure: true,
});

function firstOf([first]: readonly UsualSocket[]): EngineTarget {
  return socketTarget(first?.path ?? "/var/run/docker.sock");
}

/** All are asked at once, so that a silent one costs its time only once. */
async function firstThatAnswers(
  sockets: readonly UsualSocket[],
  pingMs: number,
): Promise<FoundEngine> {
  const looks = await Promise.all(
    sockets.map(async (socket) => ({ ...socket, silence: await silenceOf(socket.path, pingMs) })),
  );
  const there = looks.filter(({ silence }) => silence !== MISSING);
  const at = there.findIndex(({ silence }) => silence === undefined);
  const taken = there[Math.max(at, 0)] ?? sockets[0];
  if (taken === undefined) throw new TypeError("no usual sockets");
  const before = there.slice(0, Math.max(at, 0));
  return {
    ...socketTarget(taken.path),
    why: taken.of,
    passedOver: before.map(({ path, silence }) => `${path}: ${silence}`),
    sure: at >= 0,
  };
}

const MISSING = "not there";

/** Why nobody answers; undefined when an engine does. */
async function silenceOf(path: string, pingMs: number): Promise<string | undefined> {
  const there = await stat(path).catch(() => undefined);
  // A named pipe is no socket to stat.
  if (there === undefined && !path.startsWith("//")) return MISSING;
  const { default: Docker } = await import("dockerode");
  const deadline = AbortSignal.timeout(pingMs);
  try {
    // Its own limit is what closes the connection.
    const docker = new Docker({ ...socketTarget(path).options, timeout: pingMs });
    await untilAbort(docker.ping(), deadline);
    return undefined;
  } catch (thrown) {
    if (deadline.aborted) return `no answer within ${pingMs} ms`;
    return thrown instanceof Error && "code" in thrown ? String(thrown.code) : String(thrown);
  }
}
