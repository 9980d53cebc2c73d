import { randomBytes } from "node:crypto";
import { chown, mkdir, mkdtemp, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { cgroupPids, makeCgroups, removeCgroups } from "./cgroups.ts";
import check from "./check.sh" with { type: "text" };
import { launch } from "./launch.ts";
import { probeMark, sweepProbes } from "./probe-sweep.ts";
import type { ProcessProviderOptions } from "./process-options.ts";
import { missingWithoutRoot } from "./without-root.ts";

/** What the probe found: confined, or why not. */
export interface Confinement {
  readonly confined: boolean;
  readonly arch: string;
  readonly version?: string;
  readonly reason?: string;
  readonly fix?: string;
  readonly details?: Readonly<Record<string, unknown>>;
  /** True when the probe itself could not be finished: ask again. */
  readonly transient: boolean;
}

const TIMEOUT_MS = 15_000;
const PROBE_UID = 2_000_000_000;

/**
 * Starts the launcher with a script in harnessd's place, and holds what that finds inside against
 * each point of PROTOCOL.md, "Confined". Never throws.
 */
export async function probeProcess(
  options: ProcessProviderOptions,
  signal: AbortSignal,
): Promise<Confinement> {
  const base = { arch: process.arch, transient: false };
  const unable = await unsupported();
  if (unable !== undefined) return { ...base, confined: false, ...unable };
  try {
    const facts = await collect(
      options,
      AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    );
    const failed = await failedPoints(facts);
    if (failed.length === 0) {
      return { ...base, confined: true, version: "util-linux", details: { method: "unshare" } };
    }
    const reason = `not confined: ${failed.join("; ")}`;
    return { ...base, confined: false, reason, fix: FIX };
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    return { ...base, confined: false, transient: true, reason, fix: FIX };
  }
}

const FIX = "Install Docker, or run the daemon as root on Linux with util-linux and cgroups.";

async function unsupported(): Promise<{ reason: string; fix: string } | undefined> {
  if (process.platform !== "linux") {
    return {
      reason: `no confinement is built for ${process.platform} yet`,
      fix: "Install Docker.",
    };
  }
  const uid = process.getuid?.() ?? 0;
  if (uid !== 0) {
    const missing = await missingWithoutRoot({ uid, name: userName(uid) });
    const here = missing.length === 0 ? "" : ` (here also missing: ${missing.join("; ")})`;
    return {
      reason:
        "confining a process needs root: the launcher for a plain user, with a second uid and limits " +
        `on the memory and pids of a group, is not built yet${here}`,
      fix: "Install Docker, or run as root; --allow-unconfined does without walls.",
    };
  }
  return undefined;
}

/** Users of containers often stand in no passwd file, for which Node throws. */
function userName(uid: number): string {
  try {
    return userInfo().username;
  } catch {
    return String(uid);
  }
}

async function collect({ instanceId }: ProcessProviderOptions, signal: AbortSignal) {
  await sweepProbes(instanceId);
  const mark = probeMark(instanceId);
  const base = await mkdtemp(join(tmpdir(), `deco-${mark}`));
  const name = `${mark}${randomBytes(4).toString("hex")}`;
  let cgroups: string[] = [];
  try {
    cgroups = await makeCgroups(name, { memoryMib: 64, cpus: 1, pids: 32 });
    const runDir = join(base, "run");
    const workspace = join(base, "workspace");
    for (const directory of [runDir, workspace]) {
      await mkdir(directory, { mode: 0o700 });
      await chown(directory, PROBE_UID, PROBE_UID);
    }
    const binary = join(base, "check.sh");
    await writeFile(binary, check, { mode: 0o755 });
    const logPath = join(base, "log");
    const o = { base, runDir, workspace, binary, cgroups, logPath };
    const child = await launch({ ...o, uid: PROBE_UID, pids: 32, hostname: "probe" });
    child.ref();
    const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    const onAbort = () => child.kill("SIGKILL");
    signal.addEventListener("abort", onAbort, { once: true });
    await exited;
    signal.removeEventListener("abort", onAbort);
    return parseFacts(await readFile(logPath, "utf8"));
  } finally {
    for (const pid of await cgroupPids(cgroups)) process.kill(pid, "SIGKILL");
    await removeCgroups(cgroups);
    await rm(base, { recursive: true, force: true });
  }
}

function parseFacts(log: string): Map<string, string> {
  const facts = new Map<string, string>();
  for (const line of log.split("\n")) {
    const match = /^(\w+)=(.*)$/.exec(line);
    if (match) facts.set(match[1] ?? "", (match[2] ?? "").trim());
  }
  if (facts.get("end") === "reached") return facts;
  throw new Error(`the launcher failed: ${log.trim().split("\n").slice(-3).join(" ")}`);
}

const ROOT_NAMES = new Set(
  "bin dev etc home lib lib32 lib64 libx32 opt proc run sbin tmp usr var workspace".split(" "),
);
const ETC_NAMES = new Set(
  "alternatives group hostname hosts ld.so.cache nsswitch.conf passwd ssl".split(" "),
);
const ENV_NAMES = new Set(
  "HARNESS_ADDR HARNESS_LOG_MIB HARNESS_SWEEP HOME LANG OLDPWD PATH PWD SHLVL _".split(" "),
);

/** The points of the definition that do not hold, in words. */
async function failedPoints(facts: ReadonlyMap<string, string>): Promise<string[]> {
  const failed: string[] = [];
  const expect = (what: string, holds: boolean) => {
    if (!holds) failed.push(what);
  };
  const is = (name: string, value: string) => facts.get(name) === value;
  const only = (name: string, allowed: ReadonlySet<string>) =>
    (facts.get(name) ?? "?").split(/\s+/).every((word) => word === "" || allowed.has(word));
  expect("another uid", is("uid", String(PROBE_UID)) && is("groups", String(PROBE_UID)));
  for (const name of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
    expect(`no capabilities (${name})`, is(name, "0000000000000000"));
  }
  expect("no_new_privs", is("NoNewPrivs", "1"));
  for (const name of ["pid", "net", "ipc", "uts", "mnt"]) {
    const ours = await readlink(`/proc/self/ns/${name}`);
    expect(`own ${name} namespace`, facts.has(`ns_${name}`) && !is(`ns_${name}`, ours));
  }
  expect("own /proc", Number(facts.get("pids") ?? 1e9) < 12);
  expect("nothing else of the host at /", only("root", ROOT_NAMES));
  expect("nothing else of the host's /etc", only("etc", ETC_NAMES));
  expect("a clean environment", only("env", ENV_NAMES));
  expect("no network", is("interfaces", "lo") || only("interfaces", TUNNELS));
  expect("a limit of processes", is("nproc", "32"));
  expect("read-only system directories", is("usr", "read-only") && is("top", "read-only"));
  expect("own /workspace and /tmp", is("workspace", "writable") && is("tmp", "writable"));
  expect("no user namespaces", is("userns", "refused"));
  return failed;
}

/** Kernels with tunnel modules put these, down, into each new network namespace. */
const TUNNELS = new Set(
  "lo tunl0 gre0 gretap0 erspan0 ip_vti0 ip6_vti0 sit0 ip6tnl0 ip6gre0".split(" "),
);
