import { afterAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import { harnessClient } from "../../src/sandbox/harness-client.ts";
import type { EnsureContext, SandboxInfo } from "../../src/sandbox/provider.ts";
import { type Tier, wantedSandbox } from "../../src/sandbox/sandbox-spec.ts";
import { CACHE_DIR, quietLog, runInside } from "../suites/sandbox-provider-suite.ts";
import { dockerAnswers, isSkipped } from "../support/engines.ts";

const DOCS = join(import.meta.dir, "..", "..", "docs", "sandboxes.md");
const MARK = "<!-- tiers: made by test/sandbox/docker-tiers.test.ts; UPDATE_DOCS=1 writes it -->";
const END = "<!-- /tiers -->";
const TIERS = [1, 2, 3, 4] as const;
const signal = AbortSignal.timeout(240_000);
/** A machine that is itself a container may lack capabilities; then no engine starts a privileged root. */
const wholeMachine = await everyCapability();
const docker = new Docker();

/** What a tier is, as the engine, the kernel and a look from inside say. */
interface Facts {
  readonly info: SandboxInfo;
  readonly host: Docker.HostConfig;
  readonly inside: Readonly<Record<string, string>>;
  readonly limits: { readonly memory: number; readonly pids: number; readonly cpus: number };
}

const LOOK = `
echo uid=$(id -u)
for n in CapEff CapBnd NoNewPrivs Seccomp; do echo $n=$(awk "/^$n:/{print \\$2}" /proc/self/status); done
(echo x >/canary) 2>/dev/null && echo root=writable || echo root=read-only
rm -f /canary
echo tmp=$(awk '$2=="/tmp"{print $4}' /proc/mounts)
printf '#!/bin/sh\\necho ran\\n' >/tmp/x; chmod +x /tmp/x; echo exec=$(/tmp/x 2>/dev/null); rm /tmp/x
dd if=/dev/zero of=/tmp/fill bs=1M count=80 2>/dev/null; echo fill=$(stat -c %s /tmp/fill); rm -f /tmp/fill
echo net=$(readlink /proc/self/ns/net)
echo pid=$(readlink /proc/self/ns/pid)
echo interfaces=$(ls /sys/class/net | tr '\\n' ' ')
[ -S /var/run/docker.sock ] && echo socket=$(stat -c %i /var/run/docker.sock)
echo disks=$(ls /dev | grep -c -E '^(loop-control|kmsg|mem)$')
echo workspace=$(touch /workspace/f && echo writable)
`;

if (!isSkipped("Docker engine", await dockerAnswers())) {
  describe("tiers, as real containers", () => {
    const instanceId = `tier${Math.random().toString(16).slice(2, 12)}`;
    const ready = mkdtemp(join(tmpdir(), "deco-s-")).then((runRoot) => ({
      runRoot,
      provider: dockerProvider({ instanceId, runRoot, cacheDir: CACHE_DIR, log: quietLog }),
    }));
    const context: EnsureContext = { instanceId, onStage() {} };
    const facts = new Map<Tier, Facts>();

    afterAll(async () => {
      const { provider, runRoot } = await ready;
      for (const { handle } of await provider.list(signal)) await provider.remove(handle, signal);
      await provider.close?.(signal);
      await rm(runRoot, { recursive: true });
      const filters = { label: [`dev.deco-link.instance=${instanceId}`] };
      expect(await docker.listContainers({ all: true, filters })).toEqual([]);
      const { Volumes } = await docker.listVolumes({ filters: JSON.stringify(filters) });
      expect(Volumes ?? []).toEqual([]);
      expect(await docker.listNetworks({ filters: JSON.stringify(filters) })).toEqual([]);
    });

    for (const tier of TIERS) {
      test(`tier ${tier} starts, and is looked at`, async () => {
        const { provider } = await ready;
        const handle = `tier-${tier}`;
        const info = await provider.ensure(handle, { tier }, context, signal);
        const { output, last } = await runInside(provider, handle, LOOK, signal);
        expect(last.type).toBe("run.completed");
        const inside = Object.fromEntries(
          output
            .trim()
            .split("\n")
            .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
        );
        const { HostConfig: host, State } = await docker.getContainer(info.id).inspect();
        facts.set(tier, { info, host, inside, limits: await limitsOf(State.Pid) });
        expect(info.confined).toBe(tier <= 2);
      }, 60_000);
    }

    const of = (tier: Tier): Facts => {
      const found = facts.get(tier);
      if (found === undefined) throw new Error(`tier ${tier} did not start`);
      return found;
    };

    test("every tier has limits on memory, CPU and pids, which the kernel holds", () => {
      for (const tier of TIERS) {
        const { host, limits } = of(tier);
        expect(limits).toEqual({ memory: 512 * 1024 * 1024, pids: 128, cpus: 1 });
        expect(host.MemorySwap).toBe(512 * 1024 * 1024);
      }
    });

    test("tiers 1 and 2 are no root, without capabilities, new privileges or an open kernel", async () => {
      for (const tier of [1, 2] as const) {
        const { inside } = of(tier);
        expect(Number(inside["uid"])).toBeGreaterThan(0);
        expect(inside).toMatchObject({ NoNewPrivs: "1", Seccomp: "2", root: "read-only" });
        expect([inside["CapEff"], inside["CapBnd"]]).toEqual(Array(2).fill("0".repeat(16)));
        expect(inside["pid"]).not.toBe(await readlink("/proc/self/ns/pid"));
        expect([inside["socket"], inside["disks"]]).toEqual([undefined, "0"]);
      }
    });

    test("tier 1 has 64 MiB of /tmp from which nothing starts, and no network at all", () => {
      const { inside } = of(1);
      expect(inside["tmp"]?.split(",")).toContain("noexec");
      expect(inside["tmp"]?.split(",")).toContain("nosuid");
      expect(inside["fill"]).toBe(String(64 * 1024 * 1024));
      expect(inside["exec"]).toBe("");
      expect(inside["interfaces"]?.trim()).toBe("lo");
      expect(inside["workspace"]).toBe("writable");
      // The standard tier differs in just that.
      expect(of(2).inside).toMatchObject({ exec: "ran", fill: String(80 * 1024 * 1024) });
    });

    test("tier 3 is privileged root with the host's pids, on the engine's network", async () => {
      const { inside, host } = of(3);
      expect(inside).toMatchObject({ Seccomp: "0", NoNewPrivs: "0" });
      expect(inside["uid"]).toBe(wholeMachine ? "0" : of(2).inside["uid"]);
      expect(inside["CapBnd"]).not.toBe("0".repeat(16));
      expect(inside["root"]).toBe(wholeMachine ? "writable" : "read-only");
      expect(host.ReadonlyRootfs).toBe(false);
      expect(inside["pid"]).toBe(await readlink("/proc/self/ns/pid"));
      expect(inside["net"]).not.toBe(await readlink("/proc/self/ns/net"));
      expect(inside["interfaces"]).toContain("eth0");
      expect(inside["socket"]).toBeUndefined();
      expect(host.Privileged).toBe(true);
    });

    test("tier 4 has the host's network and the engine's socket as well", async () => {
      const { inside } = of(4);
      expect(inside["net"]).toBe(await readlink("/proc/self/ns/net"));
      expect(inside["pid"]).toBe(await readlink("/proc/self/ns/pid"));
      expect(inside["socket"]).toBe(String((await stat("/var/run/docker.sock")).ino));
    });

    for (const tier of [3, 4] as const) {
      test(`what a run left in tier ${tier} is counted and ended, and nothing of the host is`, async () => {
        const { provider } = await ready;
        const handle = `tier-${tier}`;
        // Of the sandbox's own user: what swept the host would end it.
        const { socketUid: uid = 0 } = await provider.endpoint(handle, signal);
        const mine = spawn("sleep", ["600"], { stdio: "ignore", uid });
        try {
          expect(await provider.processesLeft(handle, signal)).toBe(0);
          const stubborn = `(setsid sh -c 'trap "" TERM HUP INT; echo $$ >/workspace/pid; while :; do sleep 1; done' >/dev/null 2>&1 &)`;
          await runInside(provider, handle, `${stubborn}; sleep 1`, signal);
          // Also what harnessd forgets, because it lost its mark, is in the container's cgroup.
          const client = harnessClient(await provider.endpoint(handle, signal));
          const forked = `env -i setsid sh -c 'sleep 600 & sleep 600' >/dev/null 2>&1 & sleep 600`;
          const { runId } = await client.createRun({ prompt: forked }, signal);
          while ((await provider.processesLeft(handle, signal)) < 4) await Bun.sleep(20);
          await client.cancel(runId, signal);
          for await (const event of client.events(runId, {}, signal)) void event;
          expect(mine.exitCode ?? mine.signalCode).toBeNull();
          expect(await provider.killProcesses(handle, signal)).toBe(0);
          expect(await provider.processesLeft(handle, signal)).toBe(0);
          expect(mine.exitCode ?? mine.signalCode).toBeNull();
          const again = await runInside(provider, handle, "echo alive", signal);
          expect(again.output).toBe("alive\n");
        } finally {
          mine.kill("SIGKILL");
        }
      }, 60_000);

      test(`removing tier ${tier} ends all that ran in it`, async () => {
        const { provider } = await ready;
        const handle = `tier-${tier}`;
        const client = harnessClient(await provider.endpoint(handle, signal));
        const left = "setsid sh -c 'echo $$ >/workspace/pid; sleep 600' & sleep 600";
        await client.createRun({ prompt: left }, signal);
        const { output } = await runInside(
          provider,
          handle,
          "until [ -s /workspace/pid ]; do sleep 0.1; done; sleep 0.2; cat /workspace/pid",
          signal,
        );
        // It is the host's number, as the host's pids are seen inside.
        const pid = Number(output);
        expect(await readFile(`/proc/${pid}/cgroup`, "utf8")).toContain(of(tier).info.id);
        await provider.remove(handle, signal);
        await expect(readFile(`/proc/${pid}/cgroup`, "utf8")).rejects.toThrow();
      }, 60_000);
    }

    test("the table in the docs says what the containers are", async () => {
      const table = tableOf(of);
      const text = await readFile(DOCS, "utf8");
      const [before, rest] = text.split(MARK);
      const [old, after] = rest?.split(END) ?? [];
      if (process.env["UPDATE_DOCS"] === "1") {
        await writeFile(DOCS, `${before}${MARK}\n${table}\n${END}${after}`);
        return;
      }
      expect(old?.trim()).toBe(table);
    });
  });
}

async function everyCapability(): Promise<boolean> {
  const [, bounding = "0"] = /CapBnd:\s*(\w+)/.exec(await readFile("/proc/1/status", "utf8")) ?? [];
  const last = Number(await readFile("/proc/sys/kernel/cap_last_cap", "utf8"));
  return Number.parseInt(bounding, 16) === 2 ** (last + 1) - 1;
}

const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
const mib = (bytes: number) => `${bytes / 1024 / 1024} MiB`;

function tableOf(of: (tier: Tier) => Facts): string {
  const rows: [string, (facts: Facts, tier: Tier) => string][] = [
    ["user inside", ({ host }) => (host.Privileged ? "root (1)" : "no root")],
    ["capabilities", ({ inside }) => (/^0+$/.test(inside["CapBnd"] ?? "") ? "none" : "all (1)")],
    ["no-new-privileges", ({ inside }) => (inside["NoNewPrivs"] === "1" ? "yes" : "no")],
    ["seccomp filter", ({ inside }) => (inside["Seccomp"] === "2" ? "the engine's" : "none")],
    ["root file system", ({ host }) => (host.ReadonlyRootfs ? "read-only" : "writable")],
    ["/tmp", ({ inside }) => tmpOf(inside["tmp"] ?? "")],
    ["/workspace", ({ inside }) => inside["workspace"] ?? ""],
    ["folders of the host", (_facts, tier) => hostFolders(tier)],
    ["process ids", ({ host }) => (host.PidMode === "host" ? "the host's" : "its own")],
    ["network", ({ inside, host }) => networkOf(inside, host)],
    ["engine's socket", ({ inside }) => (inside["socket"] === undefined ? "no" : "yes")],
    ["memory, with swap", ({ limits }) => mib(limits.memory)],
    ["CPUs", ({ limits }) => String(limits.cpus)],
    ["pids", ({ limits }) => String(limits.pids)],
    ["`confined` in answers", ({ info }) => String(info.confined)],
  ];
  const head = ["", "1 sandboxed", "2 standard", "3 privileged", "4 full host"];
  return [
    row(head),
    row(head.map(() => "---")),
    ...rows.map(([name, cell]) => row([name, ...TIERS.map((tier) => cell(of(tier), tier))])),
  ].join("\n");
}

function tmpOf(options: string): string {
  const all = options.split(",");
  const size = all.find((one) => one.startsWith("size="))?.slice(5) ?? "";
  const flags = ["noexec", "nosuid", "nodev"].filter((flag) => all.includes(flag));
  return `${Number(size.replace("k", "")) / 1024} MiB, ${flags.join(", ")}`;
}

function hostFolders(tier: Tier): string {
  const workspace = { mode: "read_only", path: "/x" } as const;
  try {
    wantedSandbox({ tier, workspace }, "docker", { egress: tier === 1 ? "none" : "open" });
    return "what the policy allows";
  } catch {
    return "refused";
  }
}

function networkOf(inside: Readonly<Record<string, string>>, host: Docker.HostConfig): string {
  if (host.NetworkMode === "host") return "the host's";
  return inside["interfaces"]?.trim() === "lo" ? "none but the model proxy" : "the engine's";
}

/** What the kernel holds for the cgroups of a process, version 1 or 2. */
async function limitsOf(pid: number): Promise<Facts["limits"]> {
  const lines = (await readFile(`/proc/${pid}/cgroup`, "utf8")).trim().split("\n");
  const read = async (controller: string, v1: string, v2: string) => {
    const found = lines.map((line) => line.split(":"));
    const old = found.find(([, names]) => names?.split(",").includes(controller));
    const path = old
      ? `/sys/fs/cgroup/${controller}${old[2]}/${v1}`
      : `/sys/fs/cgroup${found.find(([n]) => n === "0")?.[2]}/${v2}`;
    return (await readFile(path, "utf8")).trim();
  };
  const quota = await read("cpu", "cpu.cfs_quota_us", "cpu.max");
  const period = quota.includes(" ")
    ? quota.split(" ")[1]
    : await read("cpu", "cpu.cfs_period_us", "");
  return {
    memory: Number(await read("memory", "memory.limit_in_bytes", "memory.max")),
    pids: Number(await read("pids", "pids.max", "pids.max")),
    cpus: Number(quota.split(" ")[0]) / Number(period),
  };
}
