import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { lstat, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { silentLog } from "../../src/daemon/log.ts";
import { reapOrphans } from "../../src/daemon/reap-orphans.ts";
import { namesOf } from "../../src/sandbox/drivers/docker/names.ts";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import { runDirOf } from "../../src/sandbox/run-dir.ts";
import { warmLab } from "../support/warm-lab.ts";

const signal = AbortSignal.timeout(280_000);
const lab = await warmLab("warmleft", signal);
const { available, docker, instanceId, runRoot, context, make, objects } = lab;
const { spares, ready, inside, warmed, nothingLeft } = lab;
const VICTIM = join(import.meta.dirname, "../support/programs/warm-victim.ts");

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

const reaped = async (provider: SandboxProvider) =>
  await reapOrphans(provider, { busy: () => false, log: silentLog }, signal);

/** What a daemon leaves that dies while it removes a spare, or just before it makes its container. */
async function halfRemoved(handle: string): Promise<void> {
  const Labels = { "dev.deco-link.instance": instanceId, "dev.deco-link.handle": handle };
  await docker.createVolume({ Name: namesOf(instanceId, handle).volume, Labels });
  const dir = runDirOf(runRoot, "docker", handle);
  await mkdir(dir.run, { recursive: true });
  const record = {
    handle,
    provider: "docker",
    token: "t",
    createdAt: "",
    specHash: "x",
    uid: 1000,
  };
  await writeFile(dir.record, JSON.stringify(record));
}

describe.skipIf(!available)("what is left of sandboxes made ahead", () => {
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

  test("one whose container is gone, or never was, goes with volume and directory at the next look", async () => {
    const provider = make();
    await halfRemoved("w-00000000000000aa");
    expect((await objects()).sandboxes).toHaveLength(1);
    await provider.prepare?.({ ahead: false }, signal);
    await nothingLeft(provider);
  }, 60_000);

  test("a daemon that leaves takes along what others that died left, and what is just being made", async () => {
    const died = await warmed();
    const [spare] = await spares();
    const provider = make({ warmSandboxes: 2 });
    await provider.ensure("mine", {}, context, signal);
    await provider.remove("mine", signal);
    await provider.close?.(signal);
    expect((await spares()).map(({ Id }) => Id)).not.toContain(spare?.Id ?? "");
    expect(Object.values(await objects()).flat()).toEqual([]);
    await nothingLeft(died);
  }, 60_000);

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
    // Its workspace is its owner's: no look at what was made ahead takes it.
    const { sandboxes } = await objects();
    expect(sandboxes).toHaveLength(1);
    await provider.prepare?.({ ahead: false }, signal);
    expect((await objects()).sandboxes).toEqual(sandboxes);
    await provider.remove("lost", signal);
    expect(existsSync(runDirOf(runRoot, "docker", "lost").base)).toBe(false);
    await nothingLeft(provider);
  }, 60_000);

  test("a thread keeps its workspace, whoever removes its leased container, and however often", async () => {
    const provider = await warmed();
    const thread = "t-00000000000000a1";
    const leased = await provider.ensure(thread, {}, context, signal);
    expect(Object.keys(leased.stages ?? {})).toContain("lease");
    await inside(provider, thread, "echo mine >f");
    let id = leased.id;
    for (let loss = 0; loss < 2; loss++) {
      await docker.getContainer(id).remove({ force: true, v: true });
      for (let look = 0; look < 2; look++) await inAnHour(async () => await reaped(provider));
      const orphans = await inAnHour(async () => (await provider.orphans?.(signal)) ?? []);
      expect(orphans).toMatchObject([{ kind: "volume", handle: thread }]);
      ({ id } = await provider.ensure(thread, {}, context, signal));
      expect(await inside(provider, thread, "cat f")).toBe("mine\n");
    }
    await provider.remove(thread, signal);
    await nothingLeft(provider);
  }, 60_000);

  test("a leased sandbox without a thread whose daemon died while it was removed is reaped, volume and all", async () => {
    const provider = await warmed();
    const { id } = await provider.ensure("r-00000000000000a2", {}, context, signal);
    await docker.getContainer(id).remove({ force: true, v: true });
    for (let look = 0; look < 2; look++) await inAnHour(async () => await reaped(provider));
    await nothingLeft(provider);
  }, 60_000);
});
