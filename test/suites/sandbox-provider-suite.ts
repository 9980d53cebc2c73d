import { afterAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DecoError } from "../../src/protocol/errors.ts";
import { type HarnessEvent, harnessClient } from "../../src/sandbox/harness-client.ts";
import type { EnsureContext, SandboxProvider } from "../../src/sandbox/provider.ts";
import { ownerScenarios } from "./scenarios/owners.ts";
import { templateScenarios } from "./scenarios/templates.ts";
import { workspaceScenarios } from "./scenarios/workspaces.ts";

export interface SuiteParts {
  readonly instanceId: string;
  readonly runRoot: string;
  readonly readyTimeoutMs?: number;
}

export interface SuiteOptions {
  readonly name: string;
  /** A provider as a freshly started daemon would build it; called again for a "restart". */
  readonly make: (parts: SuiteParts) => SandboxProvider;
  /** Things of ours outside of the run root: containers, volumes, cgroups, mounts, processes. */
  readonly leftovers: (parts: SuiteParts) => Promise<string[]>;
  /** What may stay while a daemon runs, and is gone when it has closed its provider. */
  readonly leftAtEnd?: (parts: SuiteParts) => Promise<string[]>;
  /** What this engine is known not to do; docs/sandboxes.md says so. */
  readonly gaps?: readonly ("kill" | "links")[];
}

/** Where tests keep built binaries between runs. */
export const CACHE_DIR = join(import.meta.dir, "..", "..", ".cache", "deco");

export const quietLog = { debug() {}, info() {}, warn() {} };

const noModelSocket = () => Promise.reject(new Error("no model socket"));

/** Prints why a suite does not run; on CI that is a failure. */
export function skipped(suite: string, why: string, how: string): void {
  process.stderr.write(`SKIPPED ${suite}: ${why}, ${how}\n`);
  if (process.env["CI"] !== "true") return;
  test(`${suite} runs on CI`, () => {
    throw new Error(`${suite} was skipped: ${why}`);
  });
}

/** Runs a shell command inside and returns what it printed. */
export async function runInside(
  provider: SandboxProvider,
  handle: string,
  prompt: string,
  signal: AbortSignal,
): Promise<{ output: string; last: HarnessEvent }> {
  const client = harnessClient(await provider.endpoint(handle, signal));
  const { runId } = await client.createRun({ prompt, harness: "shell" }, signal);
  let output = "";
  let last: HarnessEvent | undefined;
  for await (const event of client.events(runId, {}, signal)) {
    last = event;
    if (event.type === "tool.output.delta") output += String(event.payload["content"]);
  }
  if (last === undefined) throw new Error("no events");
  return { output, last };
}

/** What every sandbox provider must do, against its real engine. */
export function sandboxProviderSuite(options: SuiteOptions): void {
  describe(`sandbox provider ${options.name}`, () => {
    const signal = AbortSignal.timeout(240_000);
    const { gaps = [] } = options;
    const roots: string[] = [];
    const instances: { provider: SandboxProvider; parts: SuiteParts }[] = [];
    const opened: SandboxProvider[] = [];
    const open = (parts: SuiteParts) => {
      const provider = options.make(parts);
      opened.push(provider);
      return provider;
    };

    const instance = async () => {
      const runRoot = await mkdtemp(join(tmpdir(), "deco-s-"));
      roots.push(runRoot);
      const parts = { instanceId: `test${Math.random().toString(16).slice(2, 12)}`, runRoot };
      const provider = open(parts);
      instances.push({ provider, parts });
      const context: EnsureContext = { instanceId: parts.instanceId, onStage() {} };
      return { provider, parts, context };
    };

    afterAll(async () => {
      const left: string[] = [];
      for (const { provider, parts } of instances) {
        for (const info of await provider.list(signal)) {
          left.push(`sandbox ${info.handle}`);
          await provider.remove(info.handle, signal);
        }
        left.push(...(await options.leftovers(parts)));
      }
      for (const provider of opened) await provider.close?.(signal);
      for (const { parts } of instances) left.push(...((await options.leftAtEnd?.(parts)) ?? []));
      for (const root of roots) {
        left.push(...(await readdir(root)));
        await rm(root, { recursive: true, force: true });
      }
      expect(left).toEqual([]);
    });

    workspaceScenarios({ instance, runInside, signal, gaps });
    ownerScenarios({ instance, open, signal });
    templateScenarios({ instance, signal });

    test("a sandbox is made once, runs a command inside, survives a daemon restart, and goes away", async () => {
      const { provider, parts, context } = await instance();
      const stages: string[] = [];
      const noted = { ...context, onStage: (stage: string) => void stages.push(stage) };
      const [one, two] = await Promise.all([
        provider.ensure("alpha", {}, noted, signal),
        provider.ensure("alpha", {}, context, signal),
      ]);
      expect(two.id).toBe(one.id);
      expect(stages).toContain("ready");
      expect(one).toMatchObject({ handle: "alpha", provider: provider.name, status: "running" });
      expect(one.harnesses).toContain("shell");
      expect(one.readyMs).toBeGreaterThan(0);
      expect(await readdir(one.runDir)).not.toContain("token");

      const run = await runInside(
        provider,
        "alpha",
        "echo hello; id -u; echo x > /workspace/f",
        signal,
      );
      expect(run.last.type).toBe("run.completed");
      const uid = Number(run.output.split("\n")[1]);
      expect(run.output.startsWith("hello\n")).toBe(true);
      expect(uid).toBeGreaterThan(0);

      const restarted = open(parts);
      expect((await restarted.inspect("alpha", signal))?.id).toBe(one.id);
      expect((await restarted.list(signal)).map((info) => info.handle)).toEqual(["alpha"]);
      expect((await restarted.ensure("alpha", {}, context, signal)).id).toBe(one.id);
      const again = await runInside(restarted, "alpha", "cat /workspace/f", signal);
      expect(again.output).toBe("x\n");

      await restarted.remove("alpha", signal);
      await restarted.remove("alpha", signal);
      expect(await restarted.inspect("alpha", signal)).toBeUndefined();
      expect(await restarted.list(signal)).toEqual([]);
      await expect(restarted.endpoint("alpha", signal)).rejects.toMatchObject({
        code: "sandbox_not_found",
      });
    }, 120_000);

    test.skipIf(gaps.includes("kill"))(
      "children that forked twice and ignore SIGTERM are counted, and ended (LESSONS 18)",
      async () => {
        const { provider, context } = await instance();
        await provider.ensure("kill", {}, context, signal);
        expect(await provider.processesLeft("kill", signal)).toBe(0);
        const stubborn = `(setsid sh -c 'trap "" TERM HUP INT; while :; do sleep 1; done' >/dev/null 2>&1 &) ; echo started`;
        const client = harnessClient(await provider.endpoint("kill", signal));
        const { runId } = await client.createRun({ prompt: `${stubborn}; sleep 600` }, signal);
        while ((await provider.processesLeft("kill", signal)) < 3) await Bun.sleep(20);
        expect(await provider.killProcesses("kill", signal)).toBe(0);
        expect(await provider.processesLeft("kill", signal)).toBe(0);
        for await (const event of client.events(runId, {}, signal)) void event;
        expect((await runInside(provider, "kill", "echo alive", signal)).output).toBe("alive\n");
        await provider.remove("kill", signal);
      },
      60_000,
    );

    test("another spec for an existing handle is a conflict, and leaves it alone", async () => {
      const { provider, context } = await instance();
      const made = await provider.ensure("spec", {}, context, signal);
      const other = provider.ensure("spec", { resources: { memoryMib: 300 } }, context, signal);
      await expect(other).rejects.toMatchObject({
        code: "run_conflict",
        fix: expect.stringContaining("`deco sandbox rm spec`"),
      });
      expect((await provider.inspect("spec", signal))?.id).toBe(made.id);
      await provider.remove("spec", signal);
    }, 60_000);

    test("a harnessd whose socket was broken is started anew with its workspace, never under a run", async () => {
      const { provider, context } = await instance();
      const made = await provider.ensure("broken", {}, context, signal);
      await runInside(provider, "broken", "echo kept >/workspace/f; echo gone >/tmp/f", signal);
      // As a guest can do it where the daemon is not root.
      await rm(join(made.runDir, "harnessd.sock"));
      await mkdir(join(made.runDir, "harnessd.sock"));
      const used = { ...context, inUse: () => true };
      await expect(provider.ensure("broken", {}, used, signal)).rejects.toMatchObject({
        code: "harness_unreachable",
      });
      const left = await provider.inspect("broken", signal);
      expect(left).toMatchObject({ status: "running", startedAt: made.startedAt });
      const stages: string[] = [];
      const noted = { ...context, onStage: (stage: string) => void stages.push(stage) };
      await provider.ensure("broken", {}, noted, signal);
      expect(stages).toContain("restart");
      const seen = await runInside(provider, "broken", "cat /workspace/f; ls /tmp", signal);
      expect(seen.output).toBe("kept\n");
      expect(await provider.processesLeft("broken", signal)).toBe(0);
      await provider.remove("broken", signal);
    }, 60_000);

    test("a harnessd that a guest stopped is started anew by the next ensure", async () => {
      const { provider, parts, context } = await instance();
      const made = await provider.ensure("mute", {}, context, signal);
      const client = harnessClient(await provider.endpoint("mute", signal));
      const stop = `for p in /proc/[0-9]*; do case "$(readlink $p/exe)" in
        */harnessd) kill -STOP "\${p#/proc/}";; esac; done`;
      await client.createRun({ prompt: `(sleep 0.3; ${stop}) >/dev/null 2>&1 &` }, signal);
      const silent = async () => {
        const look = client.health(AbortSignal.timeout(500));
        return await look.then(
          () => false,
          () => true,
        );
      };
      while (!(await silent())) await Bun.sleep(50);
      const restarted = open({ ...parts, readyTimeoutMs: 3_000 });
      const again = await restarted.ensure("mute", {}, context, signal);
      expect(again.startedAt).not.toBe(made.startedAt);
      expect((await runInside(provider, "mute", "echo back", signal)).output).toBe("back\n");
      await provider.remove("mute", signal);
    }, 60_000);

    test("what this version can't honour is refused, never ignored", async () => {
      const { provider, context } = await instance();
      for (const spec of [{ template: "ubuntu" }, { runtime: "haskell" }]) {
        await expect(provider.ensure("no", spec, context, signal)).rejects.toMatchObject({
          code: "isolation_unavailable",
        });
      }
      expect(await provider.list(signal)).toEqual([]);
    });

    test("an abort at any stage leaves nothing behind (LESSONS 29)", async () => {
      const { provider, parts, context } = await instance();
      for (const at of ["image", "create", "boot", "ready"]) {
        const stop = new AbortController();
        const onStage = (stage: string) => {
          if (stage === at) stop.abort(new Error("no longer wanted"));
        };
        const work = provider.ensure(`abort-${at}`, {}, { ...context, onStage }, stop.signal);
        expect(await work.catch((thrown: Error) => thrown.message)).toBe("no longer wanted");
        expect(await provider.inspect(`abort-${at}`, signal)).toBeUndefined();
        expect(await options.leftovers(parts)).toEqual([]);
        expect(await readdir(parts.runRoot)).toEqual([]);
      }
    }, 60_000);

    test("a step that fails is rolled back", async () => {
      const { provider, parts, context } = await instance();
      const failing = { ...context, beforeStart: noModelSocket };
      const work = provider.ensure("fails", {}, failing, signal);
      expect(await work.catch((thrown: Error) => thrown.message)).toBe("no model socket");
      expect(await provider.list(signal)).toEqual([]);
      expect(await options.leftovers(parts)).toEqual([]);
      expect(await readdir(parts.runRoot)).toEqual([]);
    }, 60_000);

    test("a neighbour's sandboxes of the same name are not seen, and not removed (LESSONS 30)", async () => {
      const ours = await instance();
      const theirs = await instance();
      const made = await ours.provider.ensure("shared", {}, ours.context, signal);
      expect(await theirs.provider.list(signal)).toEqual([]);
      expect(await theirs.provider.inspect("shared", signal)).toBeUndefined();
      await theirs.provider.remove("shared", signal);
      expect((await ours.provider.inspect("shared", signal))?.id).toBe(made.id);
      await ours.provider.remove("shared", signal);
    }, 60_000);

    test("a sandbox without egress has no network but its loopback", async () => {
      const { provider, context } = await instance();
      const made = await provider.ensure("dark", { egress: "none" }, context, signal);
      expect(made.url).toBeUndefined();
      const { output } = await runInside(
        provider,
        "dark",
        "ls /sys/class/net 2>/dev/null || cut -d: -f1 /proc/net/dev | tail -n +3",
        signal,
      );
      const names = output
        .split(/\s+/)
        .filter((name) => name !== "" && !/^(tunl|sit|ip6|gre|erspan)/.test(name));
      expect(names).toEqual(["lo"]);
      await provider.remove("dark", signal);
    }, 60_000);

    test("a token that is not the sandbox's opens nothing", async () => {
      const { provider, context } = await instance();
      await provider.ensure("token", {}, context, signal);
      const endpoint = await provider.endpoint("token", signal);
      const impostor = harnessClient({ ...endpoint, token: "wrong" });
      const refused = await impostor.createRun({ prompt: "id" }, signal).then(
        () => undefined,
        (thrown: DecoError) => thrown,
      );
      expect(refused?.extensions["status"]).toBe(401);
      await provider.remove("token", signal);
    }, 60_000);
  });
}
