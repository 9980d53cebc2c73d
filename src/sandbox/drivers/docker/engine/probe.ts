import { arch, release } from "node:os";
import { DecoError } from "../../../../protocol/errors.ts";
import type { ProviderProbe } from "../../../provider.ts";
import type { Engine } from "./engine.ts";
import { type EngineFacts, engineFacts } from "./engine-facts.ts";
import { markOf } from "./engine-mark.ts";

const DEADLINE_MS = 5_000;
const ARCHES: Readonly<Record<string, string>> = {
  amd64: "x64",
  x86_64: "x64",
  arm64: "arm64",
  aarch64: "arm64",
};

/** How the model proxy is reached from inside. */
export type ModelTransport = "socket" | "gateway";

/** Asks the engine by doing: ping, version and info, each with a deadline (LESSONS 12). */
export async function probeDocker(engine: Engine, signal: AbortSignal): Promise<ProviderProbe> {
  const o = { signal, deadlineMs: DEADLINE_MS };
  try {
    await engine.call("ping", (docker) => docker.ping(), o);
    const version = await engine.call("ask its version", (docker) => docker.version(), o);
    const info: unknown = await engine.call("ask its state", (docker) => docker.info(), o);
    const facts = engineFacts(version, info);
    const engineArch = ARCHES[facts.arch] ?? facts.arch;
    const base = { version: facts.version, arch: engineArch, confined: true };
    const trouble =
      tooOld(facts) ?? troubleOf(facts, engineArch) ?? noLimits(facts) ?? noFilter(facts);
    if (trouble !== undefined) return { ...base, available: false, ...trouble };
    const { kind, os, rootDir, seccomp, memoryMib } = facts;
    const modelTransport = transportOf(facts);
    const own = { mark: markOf(facts), sameKernel: facts.kernel === release() };
    const told = { engine: kind, modelTransport, os, rootDir, ...own, seccomp, memoryMib };
    return { ...base, available: true, details: { ...whereOf(engine), ...told } };
  } catch (thrown) {
    const error = DecoError.from(thrown, "docker_unavailable");
    const { fix, message: reason } = error;
    return { available: false, confined: true, reason, fix, details: whereOf(engine) };
  }
}

/** Which engine it is, what led to it, and what was tried before. */
function whereOf({ address, found }: Engine): Readonly<Record<string, unknown>> {
  if (found === undefined) return { address };
  const { why, passedOver } = found;
  return { address, foundBy: why, ...(passedOver.length === 0 ? {} : { passedOver }) };
}

/** Sockets cross neither into Docker Desktop's VM nor into another user namespace. */
function transportOf({ os, rootless }: EngineFacts): ModelTransport {
  return os.includes("Docker Desktop") || rootless ? "gateway" : "socket";
}

const isOlderThan = (api: string, [major, minor]: readonly [number, number]) => {
  const [ownMajor = 0, ownMinor = 0] = api.split(".").map(Number);
  return !(ownMajor > major || (ownMajor === major && ownMinor >= minor));
};

/** Version 20.10 of the engine, by what it says of its API: others than Docker count their own way. */
const OLDEST_API = [1, 41] as const;

function tooOld({ api, kind, version }: EngineFacts) {
  if (!isOlderThan(api, OLDEST_API)) return undefined;
  const said = `${version} (API ${api || "unknown"})`;
  if (kind === "podman") {
    return {
      reason: `Podman ${said} speaks an API older than 1.41`,
      fix: "Update Podman to 4.0 or newer, or install Docker 20.10 or newer.",
    };
  }
  return {
    reason: `the engine ${said} is older than 20.10`,
    fix: "Update Docker to 20.10 or newer: https://docs.docker.com/engine/install/",
  };
}

function troubleOf(facts: EngineFacts, engineArch: string) {
  if (facts.osType !== "" && facts.osType !== "linux") {
    return {
      reason: `the engine runs ${facts.osType} containers`,
      fix: "Switch it to Linux containers.",
    };
  }
  if (engineArch !== arch()) {
    return {
      reason: `the engine is ${engineArch}, this machine ${arch()}`,
      fix: "Use an engine of this machine's architecture.",
    };
  }
  return undefined;
}

/** A sandbox without its limits could take the whole laptop. */
function noLimits({ kind, version, rootless, missingLimits }: EngineFacts) {
  if (missingLimits.length === 0) return undefined;
  const name = `${rootless ? "rootless " : ""}${kind === "podman" ? "Podman" : "Docker"}`;
  return {
    reason: `${name} ${version} can't limit ${missingLimits.join(", ")} here`,
    fix: rootless
      ? "Use cgroup v2 with delegation (`systemctl edit user@.service`, Delegate=yes), or an engine of root."
      : "Turn the memory, cpu and pids cgroups of this machine's kernel on.",
  };
}

/** Docker 23.0, the first that gives a container its default profile by name (`seccomp=builtin`). */
const NAMES_ITS_PROFILE = [1, 42] as const;

/** What is called confined has a filter of system calls. Docker Desktop's default is none. */
function noFilter({ kind, version, api, seccomp }: EngineFacts) {
  if (seccomp === "profile") return undefined;
  const name = `${kind === "podman" ? "Podman" : "Docker"} ${version}`;
  if (seccomp === "none") {
    return {
      reason: `${name} filters no system calls here (seccomp)`,
      fix: "Use a kernel and an engine with seccomp: `docker info` names it among the security options.",
    };
  }
  if (kind === "docker" && !isOlderThan(api, NAMES_ITS_PROFILE)) return undefined;
  return {
    reason: `${name} is set to filter no system calls (seccomp profile unconfined)`,
    fix: "Take `seccomp-profile` out of the engine's settings (/etc/docker/daemon.json), or update it to 23.0.",
  };
}
