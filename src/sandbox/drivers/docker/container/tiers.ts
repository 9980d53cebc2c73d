import { readFile, stat } from "node:fs/promises";
import type Dockerode from "dockerode";
import { DecoError } from "../../../../protocol/errors.ts";
import type { Tier, WantedSandbox } from "../../../sandbox-spec.ts";
import type { ModelTransport } from "../engine/probe.ts";

/** Tiers 3 and 4: all of the kernel's privileges, the host's process ids. */
export const isPrivileged = (tier: Tier) => tier === 3 || tier === 4;

/** The types of the engine's API lag behind it. */
type HostConfig = Dockerode.HostConfig & { CgroupnsMode?: "host" };

export interface TierFacts {
  readonly tier: Tier;
  /** User inside. */
  readonly user: number;
  /** Who shall own harnessd's socket. */
  readonly uid: number;
  /** The engine's own socket as its host names it, and the group that may use it. */
  readonly engineSocket: string;
  readonly engineGroup: number | undefined;
  /** The engine gives no filter of system calls to a container that names none. */
  readonly unconfined: boolean;
}

/**
 * Tiers 3 and 4 run as root, unless this machine is itself without some capability (it is a
 * container): there no engine can start a privileged root. Then it is the user of the other tiers,
 * who may still become what the machine allows.
 */
export async function tierFacts(o: {
  tier: Tier;
  uid: number;
  engineSocket: string;
  unconfined?: boolean;
  /** Where the machine tells of its processes; `/proc`. */
  proc?: string;
}): Promise<TierFacts> {
  const { tier, uid, engineSocket, unconfined = false, proc = "/proc" } = o;
  const root = isPrivileged(tier) && (await hasEveryCapability(proc));
  const group = tier === 4 ? (await stat(engineSocket).catch(() => undefined))?.gid : undefined;
  return { tier, uid, engineSocket, user: root ? 0 : uid, engineGroup: group, unconfined };
}

/** By the first process of this machine, which is above all others; without a /proc: yes. */
async function hasEveryCapability(proc: string): Promise<boolean> {
  const status = await readFile(`${proc}/1/status`, "utf8").catch(() => "");
  const bounding = /^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  const last = Number(await readFile(`${proc}/sys/kernel/cap_last_cap`, "utf8").catch(() => ""));
  if (bounding === undefined || !Number.isInteger(last)) return true;
  return BigInt(`0x${bounding}`) === (1n << BigInt(last + 1)) - 1n;
}

/** What of a container's settings depends on its tier; limits are the same on all of them. */
export function tierHostConfig(facts: TierFacts): HostConfig {
  const { tier, engineSocket, engineGroup, unconfined } = facts;
  const tmpfs = { Tmpfs: tmpfsOf(facts) };
  if (!isPrivileged(tier)) {
    return {
      ...tmpfs,
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      // Naming no profile leaves the engine's own in place, where it has one.
      SecurityOpt: ["no-new-privileges", ...(unconfined ? ["seccomp=builtin"] : [])],
    };
  }
  const socket = { Type: "bind", Source: engineSocket, Target: "/var/run/docker.sock" } as const;
  return {
    ...tmpfs,
    Privileged: true,
    PidMode: "host",
    // Who kills inside tells our processes from the host's by the names of their cgroups.
    CgroupnsMode: "host",
    ...(tier === 4 ? { Mounts: [socket] } : {}),
    ...(engineGroup === undefined ? {} : { GroupAdd: [String(engineGroup)] }),
  };
}

/** What harnessd and init must know of their tier. */
export function tierEnvironment({ tier, uid }: TierFacts): string[] {
  // A sweep ends every process that it sees: with the host's pids, those of the host.
  if (!isPrivileged(tier)) return ["HARNESS_SWEEP=1"];
  return [
    // harnessd may be root there, and the daemon may not.
    `HARNESS_SOCKET_UID=${uid}`,
    // Its init is not pid 1: without this, orphans would become children of the host's.
    "TINI_SUBREAPER=1",
  ];
}

/** Inside, where its socket does not reach the daemon. */
export const HARNESS_PORT = 8080;

/** @throws isolation_unavailable where harnessd would be out of reach */
export function refuseTier({ tier, ports }: WantedSandbox, transport: ModelTransport): void {
  if (transport === "gateway" && ports.includes(HARNESS_PORT)) {
    const detail = `port ${HARNESS_PORT} is harnessd's own with this engine`;
    throw new DecoError("isolation_unavailable", detail, { fix: "Use another port inside." });
  }
  if (tier !== 4 || transport === "socket") return;
  throw new DecoError(
    "isolation_unavailable",
    "the host's network of this engine is not this machine's: tier 4 can't be reached there",
    { fix: "Use tier 3, or an engine that runs on this machine itself." },
  );
}

function tmpfsOf({ tier, user }: TierFacts): Record<string, string> {
  const exec = tier === 1 ? "noexec" : "exec";
  const tmp = tier === 1 ? "noexec,mode=1777,size=64m" : "exec,mode=1777,size=256m";
  const own = `rw,nosuid,nodev,${exec},uid=${user},gid=${user},mode=0700`;
  return {
    "/tmp": `rw,nosuid,nodev,${tmp}`,
    "/run/harnessd": `${own},size=192m`,
    "/home/agent": `${own},size=${tier === 1 ? 64 : 256}m`,
  };
}
