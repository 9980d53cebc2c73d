import { describe, expect, test } from "bun:test";
import { readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openEngineMemory } from "../../src/daemon/used-engines.ts";
import { quietLog } from "../suites/sandbox-provider-suite.ts";
import { dockerLab } from "../support/docker-lab.ts";
import { fakeEngine } from "../support/engine-fake.ts";

const signal = AbortSignal.timeout(120_000);
const lab = await dockerLab("engines");
const { available, docker, runRoot, context, make } = lab;

/** Long enough ago that nothing may be on its way to a sandbox any more. */
async function age(): Promise<string[]> {
  const then = new Date(Date.now() - 3_600_000);
  const names = await readdir(runRoot);
  for (const name of names) await utimes(join(runRoot, name), then, then);
  return names;
}

describe.skipIf(!available)("two engines on one machine", () => {
  test("what is left of another engine's sandbox is no orphan, and that is told once", async () => {
    const first = make();
    await first.probe(signal);
    const { id } = await first.ensure("there", { egress: "none" }, context, signal);
    const names = await age();
    const path = join(runRoot, "..", `deco-other-${process.pid}.sock`);
    await using other = await fakeEngine(path, { empty: true, info: { ID: "OTHER" } });
    const told: unknown[] = [];
    const log = { ...quietLog, warn: (what: object) => void told.push(what) };
    const second = make({ dockerHost: other.dockerHost, log });
    for (let looks = 0; looks < 2; looks += 1) expect(await second.orphans?.(signal)).toEqual([]);
    expect(told).toMatchObject([{ count: 1, address: path }]);
    // Its own engine says the truth of it: the container is gone, so the directory is nobody's.
    await docker.getContainer(id).remove({ force: true });
    const found = (await first.orphans?.(signal)) ?? [];
    expect(found).toContainEqual(
      expect.objectContaining({ kind: "run directory", handle: "there" }),
    );
    expect(names).toHaveLength(1);
    await first.remove("there", signal);
  }, 60_000);

  test("a record from before engines were noted is left alone where the home has used more than one", async () => {
    const memoryPath = join(runRoot, "..", `deco-engines-${process.pid}.json`);
    const engines = await openEngineMemory(memoryPath, quietLog);
    const provider = make({ engines });
    await provider.probe(signal);
    const { id } = await provider.ensure("old", { egress: "none" }, context, signal);
    const [mark = ""] = engines.known();
    expect(mark).toMatch(/^[0-9a-f]{12}$/);
    expect(JSON.parse(await readFile(memoryPath, "utf8"))).toMatchObject({
      engines: [{ mark, address: expect.any(String), usedAt: expect.any(String) }],
    });
    await docker.getContainer(id).remove({ force: true });
    const [name = ""] = await readdir(runRoot);
    const path = join(runRoot, name, "sandbox.json");
    const record = JSON.parse(await readFile(path, "utf8"));
    delete record.extra.engine;
    await writeFile(path, JSON.stringify(record));
    await age();
    const ofDirs = async () =>
      ((await provider.orphans?.(signal)) ?? []).filter(({ kind }) => kind === "run directory");
    expect(await ofDirs()).toHaveLength(1);
    await engines.use({ mark: "0".repeat(12), address: "/another.sock" });
    expect(await ofDirs()).toHaveLength(0);
    expect((await openEngineMemory(memoryPath, quietLog)).known()).toEqual(["0".repeat(12), mark]);
    await provider.remove("old", signal);
    await rm(memoryPath);
  }, 60_000);
});
