import { describe, expect, test } from "bun:test";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { readRecord, runDirOf } from "../../src/sandbox/run-dir.ts";
import type { ResolvedSpec } from "../../src/sandbox/sandbox-spec.ts";
import { until } from "../support/docker-lab.ts";
import { warmLab } from "../support/warm-lab.ts";

const signal = AbortSignal.timeout(280_000);
const lab = await warmLab("warm", signal);
const { available, docker, instanceId, runRoot, context, make, prefix } = lab;
const { spares, ready, inside, stagesOf, warmed, nothingLeft } = lab;

const file = (text: string) => ({ files: { f: { text, mode: "0644" } } });
const noModel = () => Promise.reject(new Error("no model socket"));

describe.skipIf(!available)("sandboxes made ahead", () => {
  test("one is leased whole: name, token, files, model's socket; it is no sandbox before", async () => {
    const inner = { text: "from the template", mode: "0640" };
    const spec = { env: { A: "1" }, facts: { files: { "in/file": inner } } };
    const provider = await warmed(spec, { pausePool: 1 });
    const [spare] = await spares();
    expect(await provider.list(signal)).toEqual([]);
    expect(await provider.orphans?.(signal)).toEqual([]);
    const name = spare?.Names[0]?.slice(prefix.length + 2) ?? "";
    const old = await readRecord(runDirOf(runRoot, "docker", name));
    const opened: string[] = [];
    const beforeStart = async (runDir: string) => void opened.push(runDir);
    const info = await provider.ensure("mine", spec, { ...context, beforeStart }, signal);
    expect(info.id).toBe(spare?.Id ?? "");
    expect(Object.keys(info.stages ?? {})).toContain("lease");
    const dir = runDirOf(runRoot, "docker", "mine");
    expect(info).toMatchObject({ handle: "mine", runDir: dir.run, harnesses: ["shell"] });
    expect(opened).toEqual([dir.run]);
    expect(await inside(provider, "mine", "cat in/file; ls -A /workspace")).toBe(
      "from the templatein\n",
    );
    const { token } = await provider.endpoint("mine", signal);
    expect(token).not.toBe(old?.token ?? "");
    expect((await provider.list(signal)).map(({ handle }) => handle)).toEqual(["mine"]);
    await expect(
      provider.ensure("mine", { env: { A: "2" } }, context, signal),
    ).rejects.toMatchObject({ code: "run_conflict" });
    await provider.remove("mine", signal);
    await nothingLeft(provider);
  }, 60_000);

  test("another container, and what holds something of its thread or the host, is never leased", async () => {
    const provider = await warmed();
    const small = { resources: { memoryMib: 256 } };
    expect(await stagesOf(provider, "small", small)).not.toContain("lease");
    expect(await stagesOf(provider, "port", { ports: [4711] })).not.toContain("lease");
    for (const handle of ["small", "port"]) await provider.remove(handle, signal);
    await nothingLeft(provider);
  }, 60_000);

  test("environment, files and archive are the lease's own: with others the same spare does", async () => {
    const provider = await warmed({ env: { A: "1" }, facts: file("first") });
    const mine: ResolvedSpec = {
      env: { B: "2" },
      facts: file("second"),
      workspace: { mode: "archive" },
    };
    expect(await stagesOf(provider, "mine", mine)).toContain("lease");
    expect(await inside(provider, "mine", "cat f")).toBe("second");
    const others = { ...mine, facts: file("third") };
    await expect(provider.ensure("mine", others, context, signal)).rejects.toMatchObject({
      code: "run_conflict",
    });
    const { id } = await provider.ensure("mine", { ...mine, env: { C: "3" } }, context, signal);
    await provider.close?.(signal);
    // With the run root went what it was leased as.
    for (const name of await readdir(runRoot)) await rm(join(runRoot, name), { recursive: true });
    const next = make();
    const small = next.ensure("mine", { resources: { memoryMib: 256 } }, context, signal);
    await expect(small).rejects.toMatchObject({ code: "run_conflict" });
    expect((await next.ensure("mine", mine, context, signal)).id).toBe(id);
    await next.remove("mine", signal);
    await nothingLeft(next);
  }, 60_000);

  test("what can't be made is not made ahead", async () => {
    const provider = make({ warmSandboxes: 1 });
    const work = provider.ensure("fails", {}, { ...context, beforeStart: noModel }, signal);
    expect(await work.catch((thrown: Error) => thrown.message)).toBe("no model socket");
    // Behind what it does by itself.
    await provider.prepare?.({ ahead: true }, signal);
    await provider.prepare?.({ ahead: false }, signal);
    expect(await spares()).toEqual([]);
    expect(provider.madeAhead?.()).toEqual({ ready: 0, memoryMib: 0, leased: 0 });
    await nothingLeft(provider);
  }, 60_000);

  test("nothing of a lease is in the next: file, environment, process, token", async () => {
    const provider = await warmed();
    expect(await stagesOf(provider, "one")).toContain("lease");
    const before = await provider.endpoint("one", signal);
    const leave =
      "echo canary >/workspace/f; echo canary >/tmp/f; sleep 4711 & export CANARY=1; env";
    expect(await inside(provider, "one", leave)).toContain("CANARY=1");
    await ready(provider);
    expect(await stagesOf(provider, "two")).toContain("lease");
    const look = "ls -A /workspace /tmp /home/agent; env; cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
    const seen = await inside(provider, "two", look);
    expect(seen.toLowerCase()).not.toContain("canary");
    expect(seen).not.toContain("4711");
    expect((await provider.endpoint("two", signal)).token).not.toBe(before.token);
    for (const handle of ["one", "two"]) await provider.remove(handle, signal);
    await nothingLeft(provider);
  }, 60_000);

  for (const how of ["kill", "pause", "remove", "restart"] as const) {
    test(`one that met a ${how} is passed over for a cold start, and goes`, async () => {
      const provider = await warmed();
      const [spare] = await spares();
      const container = docker.getContainer(spare?.Id ?? "");
      await (how === "remove" ? container.remove({ force: true }) : container[how]());
      const info = await provider.ensure("cold", {}, context, signal);
      expect(info.id).not.toBe(spare?.Id ?? "");
      expect(await inside(provider, "cold", "echo works")).toBe("works\n");
      expect((await spares()).map(({ Id }) => Id)).not.toContain(spare?.Id ?? "");
      await provider.remove("cold", signal);
      await nothingLeft(provider);
    }, 60_000);
  }

  test("one that lost its network is passed over, though harnessd in it answers", async () => {
    const provider = make({ warmSandboxes: 1, pausePool: 2 });
    await provider.prepare?.({ ahead: true }, signal);
    const labels = [`dev.deco-link.instance=${instanceId}`, "dev.deco-link.role=pause"];
    const filters = { label: labels, status: ["running"] };
    // One is for the first sandbox, one for the spare.
    await until(async () => (await docker.listContainers({ filters })).length === 2);
    await provider.ensure("first", {}, context, signal);
    await ready(provider);
    await provider.remove("first", signal);
    const [spare] = await spares();
    const { HostConfig } = await docker.getContainer(spare?.Id ?? "").inspect();
    const mode = HostConfig.NetworkMode ?? "";
    expect(mode).toStartWith("container:");
    await docker.getContainer(mode.slice("container:".length)).kill();
    const info = await provider.ensure("net", {}, context, signal);
    expect(info.id).not.toBe(spare?.Id ?? "");
    expect((await spares()).map(({ Id }) => Id)).not.toContain(spare?.Id ?? "");
    await provider.remove("net", signal);
    await nothingLeft(provider);
  }, 60_000);

  test("a leased one is a sandbox like any: stopped, its run root wiped, it starts again", async () => {
    const provider = await warmed();
    const made = await provider.ensure("again", {}, context, signal);
    await inside(provider, "again", "echo kept >/workspace/f");
    await docker.getContainer(made.id).kill();
    expect((await provider.ensure("again", {}, context, signal)).id).toBe(made.id);
    await docker.getContainer(made.id).kill();
    await provider.close?.(signal);
    for (const name of await readdir(runRoot)) await rm(join(runRoot, name), { recursive: true });
    const next = make();
    expect((await next.ensure("again", {}, context, signal)).id).toBe(made.id);
    expect(await inside(next, "again", "cat /workspace/f")).toBe("kept\n");
    expect(await next.orphans?.(signal)).toEqual([]);
    await next.remove("again", signal);
    await nothingLeft(next);
  }, 60_000);

  test("an abort in the middle of a lease leaves neither", async () => {
    const provider = await warmed();
    const stop = new AbortController();
    const beforeStart = async () => stop.abort(new Error("no longer wanted"));
    const work = provider.ensure("aborted", {}, { ...context, beforeStart }, stop.signal);
    expect(await work.catch((thrown: Error) => thrown.message)).toBe("no longer wanted");
    expect(await provider.inspect("aborted", signal)).toBeUndefined();
    await nothingLeft(provider);
  }, 60_000);

  test("the limit of memory keeps one from being made, and is told", async () => {
    const provider = make({ warmSandboxes: 1, warmMemoryMib: 1 });
    await provider.ensure("first", {}, context, signal);
    await until(async () => provider.madeAhead?.().reason !== undefined);
    expect(provider.madeAhead?.()).toMatchObject({ ready: 0 });
    expect(provider.madeAhead?.().reason).toMatch(/^it would use \d+ of 1 MiB$/);
    expect(await spares()).toEqual([]);
    await provider.remove("first", signal);
    await nothingLeft(provider);
  }, 60_000);
});
