import { arch } from "node:os";
import { DecoError } from "../../../protocol/errors.ts";
import type { ProviderProbe } from "../../provider.ts";
import type { Engine } from "./engine.ts";

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
    const info = readInfo(await engine.call("ask its state", (docker) => docker.info(), o));
    const engineArch = ARCHES[version.Arch] ?? version.Arch;
    const base = { version: version.Version, arch: engineArch, confined: true };
    const trouble = tooOld(version) ?? troubleOf(info, engineArch);
    if (trouble !== undefined) return { ...base, available: false, ...trouble };
    const modelTransport = transportOf(info);
    const details = { address: engine.address, modelTransport, os: info.os, rootDir: info.rootDir };
    return { ...base, available: true, details };
  } catch (thrown) {
    const error = DecoError.from(thrown, "docker_unavailable");
    return { available: false, confined: true, reason: error.message, fix: error.fix };
  }
}

interface EngineInfo {
  readonly os: string;
  readonly osType: string;
  readonly rootless: boolean;
  readonly rootDir: string;
}

function readInfo(info: unknown): EngineInfo {
  const facts = typeof info === "object" && info !== null ? info : {};
  const text = (name: string) => {
    const value: unknown = Reflect.get(facts, name);
    return typeof value === "string" ? value : "";
  };
  const options: unknown = Reflect.get(facts, "SecurityOptions");
  const names = Array.isArray(options) ? options.map(String) : [];
  return {
    os: text("OperatingSystem"),
    osType: text("OSType"),
    rootDir: text("DockerRootDir"),
    rootless: names.some((name) => /name=(rootless|userns)/.test(name)),
  };
}

/** Sockets cross neither into Docker Desktop's VM nor into another user namespace. */
function transportOf(info: EngineInfo): ModelTransport {
  return info.os.includes("Docker Desktop") || info.rootless ? "gateway" : "socket";
}

/** Version 20.10 of the engine, by what it says of its API: others than Docker count their own way. */
const OLDEST_API = [1, 41] as const;

function tooOld({ ApiVersion: api, Version: version }: { ApiVersion?: string; Version?: string }) {
  const [major = 0, minor = 0] = (api ?? "").split(".").map(Number);
  if (major > OLDEST_API[0] || (major === OLDEST_API[0] && minor >= OLDEST_API[1]))
    return undefined;
  return {
    reason: `the engine ${version ?? ""} (API ${api ?? "unknown"}) is older than 20.10`,
    fix: "Update Docker to 20.10 or newer: https://docs.docker.com/engine/install/",
  };
}

function troubleOf(info: EngineInfo, engineArch: string) {
  if (info.osType !== "" && info.osType !== "linux") {
    return {
      reason: `the engine runs ${info.osType} containers`,
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
