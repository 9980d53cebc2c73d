import { afterEach, describe, expect, test } from "bun:test";
import { readdir, rm } from "node:fs/promises";
import { DecoError } from "../../src/protocol/errors.ts";
import { dockerLab } from "../support/docker-lab.ts";
import { type Fault, faultyEngine } from "../support/engine-fault.ts";

const lab = await dockerLab("rollback");
const signal = AbortSignal.timeout(280_000);

/** Every call of the engine that makes, changes or asks something on the way to a new sandbox. */
const STEPS: readonly (readonly [string, Omit<Fault, "how">])[] = [
  ["the look for an old one", { method: "GET", path: /\/containers\/deco-.*\/json/ }],
  ["the look for its volume", { method: "GET", path: /\/volumes\/deco-/ }],
  ["the look for the image", { method: "GET", path: /\/images\/.*\/json/ }],
  ["the network", { method: "POST", path: /\/networks\/create/ }],
  ["the container", { method: "POST", path: /\/containers\/create/ }],
  ["the start", { method: "POST", path: /\/containers\/[^/]+\/start/ }],
  ["the look whether it runs", { method: "GET", path: /\/containers\/deco-.*\/json/, skip: 1 }],
];

afterEach(async () => {
  const provider = lab.make();
  for (const { handle } of await provider.list(signal)) await provider.remove(handle, signal);
  await provider.close?.(signal);
});

describe.skipIf(!lab.available)("a create that fails half-way", () => {
  for (const [step, call] of STEPS) {
    for (const how of ["refused", "cut before", "cut after"] as const) {
      // What was only asked is asked the same, whether the answer is lost before or after.
      if (how === "cut after" && call.method === "GET") continue;
      test(`${step} ${how}: nothing is left, and the next one works`, async () => {
        await using engine = await faultyEngine();
        const provider = lab.make({ dockerHost: engine.dockerHost });
        await provider.probe(signal);
        engine.arm({ ...call, how });
        const failed = await provider.ensure("half", {}, lab.context, signal).then(
          () => undefined,
          (thrown: unknown) => DecoError.from(thrown),
        );
        expect(engine.met()).toBe(true);
        expect(failed?.code).toBe(how === "refused" ? "sandbox_failed" : "docker_unavailable");
        expect((await lab.objects()).sandboxes).toEqual([]);
        expect(await readdir(lab.runRoot)).toEqual([]);
        const info = await provider.ensure("half", {}, lab.context, signal);
        expect(info.status).toBe("running");
      }, 30_000);
    }
  }

  test("a workspace that lost its container survives a create that fails", async () => {
    await using engine = await faultyEngine();
    const provider = lab.make({ dockerHost: engine.dockerHost });
    const made = await provider.ensure("kept", {}, lab.context, signal);
    await lab.docker.getContainer(made.id).remove({ force: true });
    // The whole run directory, as a reboot does it: no record says that there was a sandbox.
    for (const name of await readdir(lab.runRoot)) {
      await rm(`${lab.runRoot}/${name}`, { recursive: true });
    }
    engine.arm({ method: "POST", path: /\/containers\/[^/]+\/start/, how: "refused" });
    await expect(provider.ensure("kept", {}, lab.context, signal)).rejects.toThrow();
    const { sandboxes } = await lab.objects();
    expect(sandboxes).toHaveLength(1);
    expect(sandboxes[0]).toContain("kept-workspace");
    await provider.ensure("kept", {}, lab.context, signal);
  }, 30_000);

  test("a container of ours that a slow engine makes behind our back is replaced", async () => {
    const provider = lab.make();
    const first = await provider.ensure("clash", {}, lab.context, signal);
    await provider.remove("clash", signal);
    const name = `deco-${lab.instanceId.slice(0, 12)}-clash`;
    const order = {
      name,
      Image: first.image ?? "",
      Labels: {
        "dev.deco-link.instance": lab.instanceId,
        "dev.deco-link.handle": "clash",
      },
    };
    const beforeStart = async () => {
      await lab.docker.createContainer(order);
    };
    const context = { ...lab.context, beforeStart };
    const info = await provider.ensure("clash", {}, context, signal);
    expect(info).toMatchObject({ status: "running" });
  }, 30_000);

  test("a half-made container of another spec makes room; one that ran does not", async () => {
    const provider = lab.make();
    const first = await provider.ensure("spec", {}, lab.context, signal);
    const other = { resources: { pids: 64 } };
    await lab.docker.getContainer(first.id).kill();
    await expect(provider.ensure("spec", other, lab.context, signal)).rejects.toMatchObject({
      code: "run_conflict",
    });
    await provider.remove("spec", signal);
    await lab.docker.createContainer({
      name: `deco-${lab.instanceId.slice(0, 12)}-spec`,
      Image: first.image ?? "",
      Labels: {
        "dev.deco-link.instance": lab.instanceId,
        "dev.deco-link.handle": "spec",
        "dev.deco-link.spec": "0123456789abcdef",
      },
    });
    const made = await provider.ensure("spec", other, lab.context, signal);
    expect(made.status).toBe("running");
  }, 30_000);
});
