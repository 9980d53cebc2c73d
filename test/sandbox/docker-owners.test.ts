import { describe, expect, test } from "bun:test";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { runInside } from "../suites/sandbox-provider-suite.ts";
import { dockerLab, until } from "../support/docker-lab.ts";

const signal = AbortSignal.timeout(180_000);
const { available, docker, runRoot, context, make } = await dockerLab("owners");
const own = { ...context, owner: "@local" };
const hubs = { ...context, owner: "ada" };

const wipe = async () => {
  for (const name of await readdir(runRoot)) await rm(join(runRoot, name), { recursive: true });
};

describe.skipIf(!available)("owners of docker sandboxes", () => {
  test("the mark is on the container too: a wiped run root makes the owner's sandbox nobody else's", async () => {
    const provider = make();
    await provider.ensure("marked", {}, own, signal);
    await wipe();
    expect(await provider.inspect("marked", signal)).toMatchObject({ owner: "@local" });
    const taken = { code: "run_conflict", message: "the handle marked is taken" };
    await expect(provider.ensure("marked", {}, hubs, signal)).rejects.toMatchObject(taken);
    await provider.ensure("marked", {}, own, signal);
    await provider.remove("marked", signal);
  }, 60_000);

  test("a workspace that lost its container and its record is still its owner's", async () => {
    const provider = make();
    const { id } = await provider.ensure("lost", {}, own, signal);
    await runInside(provider, "lost", "echo mine >/workspace/f", signal);
    await docker.getContainer(id).remove({ force: true });
    const refused = { code: "run_conflict" };
    await expect(provider.ensure("lost", {}, hubs, signal)).rejects.toMatchObject(refused);
    await wipe();
    await expect(provider.ensure("lost", {}, hubs, signal)).rejects.toMatchObject(refused);
    await provider.ensure("lost", {}, own, signal);
    const { output } = await runInside(provider, "lost", "cat /workspace/f", signal);
    expect(output).toBe("mine\n");
    await provider.remove("lost", signal);
  }, 60_000);

  test("of a sandbox that was made ahead the record counts; without it nobody knows whose it is", async () => {
    const provider = make({ warmSandboxes: 1 });
    await provider.ensure("first", {}, hubs, signal);
    await provider.remove("first", signal);
    await until(async () => provider.madeAhead?.().ready === 1);
    const leased = await provider.ensure("leased", {}, own, signal);
    expect(Object.keys(leased.stages ?? {})).toContain("lease");
    expect(leased).toMatchObject({ owner: "@local" });
    await expect(provider.ensure("leased", {}, hubs, signal)).rejects.toMatchObject({
      code: "run_conflict",
    });
    await provider.close?.(signal);
    await wipe();
    const next = make({ warmSandboxes: 0 });
    expect(await next.list(signal)).toMatchObject([{ handle: "leased", owner: "@unknown" }]);
    expect(await next.ensure("leased", {}, own, signal)).toMatchObject({ owner: "@local" });
    await next.remove("leased", signal);
    await next.close?.(signal);
  }, 60_000);
});
