import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { lstat, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import { readRecord, runDirOf } from "../../src/sandbox/run-dir.ts";
import type { ResolvedSpec } from "../../src/sandbox/sandbox-spec.ts";
import { runInside } from "../suites/sandbox-provider-suite.ts";
import { dockerLab, until } from "../support/docker-lab.ts";

const signal = AbortSignal.timeout(280_000);
const { available, docker, instanceId, runRoot, context, make, objects } = await dockerLab("warm");
const VICTIM = join(import.meta.dirname, "../support/programs/warm-victim.ts");
const prefix = `deco-${instanceId.slice(0, 12)}`;

const spares = async () => {
  const filters = { label: [`dev.deco-link.instance=${instanceId}`, "dev.deco-link.role=warm"] };
  const all = await docker.listContainers({ all: true, filters });
  return all.filter(({ Names }) => Names[0]?.startsWith(`/${prefix}-w-`));
};
const ready = (provider: SandboxProvider, count = 1) =>
  until(async () => provider.madeAhead?.().ready === count);
const inside = async (provider: SandboxProvider, handle: string, command: string) =>
  (await runInside(provider, handle, command, signal)).output;
const stagesOf = async (provider: SandboxProvider, handle: string, spec: ResolvedSpec = {}) =>
  Object.keys((await provider.ensure(handle, spec, context, signal)).stages ?? {});

const file = (text: string) => ({ files: { f: { text, mode: "0644" } } });
const noModel = () => Promise.reject(new Error("no model socket"));

/** A provider with one spare of this spec. */
const warmed = async (spec: ResolvedSpec = {}, more = {}) => {
  const provider = make({ warmSandboxes: 1, ...more });
  await provider.ensure("first", spec, context, signal);
  await provider.remove("first", signal);
  await ready(provider);
  return provider;
};
const nothingLeft = async (provider: SandboxProvider) => {
  await provider.close?.(signal);
  expect(Object.values(await objects()).flat()).toEqual([]);
  expect(await readdir(runRoot)).toEqual([]);
};

/** What is younger than 5 minutes is left alone. */
const inAnHour = async <T>(work: () => Promise<T>): Promise<T> => {
  const real = Date.now;
  const then = real() + 3_600_000;
  Date.now = () => then;
  try {
    return await work();
  } finally {
    Date.now = real;
  }
};

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
    for (const other of [
      { ...mine, env: { A: "1" } },
      { ...mine, facts: file("third") },
    ]) {
      const asked = provider.ensure("mine", other, context, signal);
      await expect(asked).rejects.toMatchObject({ code: "run_conflict" });
    }
    const { id } = await provider.ensure("mine", mine, context, signal);
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

  for (const [point, survives] of [
    ["begin lease", false],
    ["before the name", false],
    ["end lease", true],
  ] as const) {
    test(`a daemon killed at "${point}" leaves what the next one ${survives ? "uses" : "reaps"}`, async () => {
      const died = Bun.spawn([process.execPath, VICTIM, instanceId, runRoot, point], {
        stderr: "pipe",
      });
      expect(await new Response(died.stderr).text()).toBe("");
      expect(await died.exited).toBe(137);
      const [before] = await docker.listContainers({
        filters: { label: [`dev.deco-link.instance=${instanceId}`] },
      });
      const next = make();
      await next.prepare?.({ ahead: false }, signal);
      expect(await spares()).toEqual([]);
      const orphans = await inAnHour(async () => await next.orphans?.(signal));
      const halfLeased = { kind: "run directory", handle: "victim" };
      expect(orphans).toMatchObject(point === "before the name" ? [halfLeased] : []);
      expect((await next.list(signal)).map(({ handle }) => handle)).toEqual(
        survives ? ["victim"] : [],
      );
      const info = await next.ensure("victim", {}, context, signal);
      expect(info.id === before?.Id).toBe(survives);
      expect(await inside(next, "victim", "echo works")).toBe("works\n");
      await next.remove("victim", signal);
      await nothingLeft(next);
    }, 60_000);
  }

  test("a link of a lease whose sandbox others removed whole is reaped, and no other", async () => {
    const provider = await warmed();
    const made = await provider.ensure("gone", {}, context, signal);
    await ready(provider);
    await provider.ensure("stays", {}, context, signal);
    await docker.getContainer(made.id).remove({ force: true, v: true });
    await rm(runDirOf(runRoot, "docker", "gone").base, { recursive: true });
    const links = async () => {
      const names = await readdir(runRoot, { withFileTypes: true });
      return names.filter((one) => one.isSymbolicLink()).map(({ name }) => name);
    };
    const before = await links();
    expect(before).toHaveLength(2);
    expect(await provider.orphans?.(signal)).toEqual([]);
    const later = await inAnHour(async () => (await provider.orphans?.(signal)) ?? []);
    const dirs = later.filter(({ kind }) => kind === "run directory");
    expect(dirs).toHaveLength(1);
    for (const orphan of later) await provider.removeOrphan?.(orphan, signal);
    expect(await links()).toEqual(before.filter((name) => name !== dirs[0]?.name));
    expect(await inside(provider, "stays", "echo works")).toBe("works\n");
    await provider.remove("stays", signal);
    await nothingLeft(provider);
  }, 60_000);

  test("what a lease leaves when its container is removed by others is reaped", async () => {
    const provider = await warmed();
    const made = await provider.ensure("lost", {}, context, signal);
    await docker.getContainer(made.id).remove({ force: true });
    const links = await Promise.all(
      (await readdir(runRoot)).map(async (name) => lstat(join(runRoot, name))),
    );
    expect(links.filter((one) => one.isSymbolicLink())).toHaveLength(1);
    await provider.remove("lost", signal);
    expect(existsSync(runDirOf(runRoot, "docker", "lost").base)).toBe(false);
    await nothingLeft(provider);
  }, 60_000);
});
