import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { z } from "zod";
import { type Lab, outputOf, payloadOf, startLab } from "../support/e2e-lab.ts";
import { dockerAnswers, isSkipped } from "../support/engines.ts";
import { runDeco } from "../support/run-deco.ts";

const Listed = z.object({ sandboxes: z.array(z.looseObject({ handle: z.string() })) });

describe.skipIf(isSkipped("Docker engine", await dockerAnswers()))(
  "the laptop's owner looks after sandboxes",
  () => {
    let lab: Lab;
    const deco = (...args: string[]) => runDeco(["sandbox", ...args], { home: lab.home });
    const json = async (...args: string[]) =>
      JSON.parse((await deco(...args, "--json")).stdout) as unknown;
    const inDocker = { harness: "shell", sandbox: { provider: "docker", egress: "none" } };

    beforeAll(async () => {
      lab = await startLab();
      await lab.link({ args: ["--local-sandbox-provider", "docker", "--pause-pool", "0"] });
    }, 90_000);
    afterAll(async () => {
      await lab?.[Symbol.asyncDispose]();
    }, 60_000);

    test("inspect, logs, exec and prune work on a thread's sandbox and a run's own", async () => {
      const thread = `t-${randomUUID()}`;
      const events = await lab.run({ ...inDocker, thread, prompt: "echo mine >/workspace/f" });
      const { handle } = z.object({ handle: z.string() }).parse(payloadOf(events, "sandbox.ready"));
      expect(await json("inspect", handle)).toMatchObject({ handle, status: "running" });
      const read = await deco("exec", handle, "--", "cat", "f");
      expect(read).toMatchObject({ code: 0, stdout: "mine\n" });
      const failed = await deco("exec", handle, "--", "sh", "-c", "echo bad >&2; exit 42");
      expect(failed).toMatchObject({ code: 42, stderr: "bad\n" });
      const echo = await deco("exec", handle, "--json", "--", "echo", "--json");
      expect(JSON.parse(echo.stdout)).toEqual({
        handle,
        exitCode: 0,
        stdout: "--json\n",
        stderr: "",
      });
      expect(await json("logs", handle)).toMatchObject({ handle, text: expect.any(String) });
      expect((await deco("exec", "nobody", "--", "true")).stderr).toContain("No such sandbox");

      await lab.run({ ...inDocker, prompt: "true" });
      const { sandboxes } = Listed.parse(await json("ls"));
      const lone = sandboxes.find((one) => one.handle !== handle)?.handle ?? "";
      const dry = await deco("prune");
      expect(dry.code).toBe(0);
      expect(dry.stdout).toContain(lone);
      expect(dry.stdout).toContain("no thread comes back to it");
      expect(dry.stdout).toContain("1 of 2 would go: add --execute");
      expect(dry.stdout).not.toContain(handle);
      expect(Listed.parse(await json("ls")).sandboxes).toHaveLength(2);
      const done = await json("prune", "--execute");
      expect(done).toMatchObject({ dryRun: false, removed: [{ name: lone }], failed: [] });
      await lab.run({ ...inDocker, prompt: "true" });
      await deco("rm", handle);
      const refused = await deco("prune", "--execute");
      expect(refused.code).toBe(9);
      expect(refused.stderr).toContain("1 of 1 things would be removed");
      expect((await deco("prune", "--execute", "--force")).stdout).toContain("removed 1 of 1");
    }, 90_000);

    test("one of several that can't be removed holds up none of the others, and is told", async () => {
      const thread = `t-${randomUUID()}`;
      const events = await lab.run({ ...inDocker, thread, prompt: "true" });
      const { handle } = z.object({ handle: z.string() }).parse(payloadOf(events, "sandbox.ready"));
      const done = await deco("rm", "No Handle", handle, "gone-already", "--json");
      expect(done.code).toBe(1);
      expect(done.stderr).toContain("No Handle: not a handle");
      expect(JSON.parse(done.stdout)).toMatchObject({
        removed: [handle],
        alreadyGone: ["gone-already"],
        failed: [{ handle: "No Handle", code: "invalid_handle" }],
      });
      const { sandboxes } = Listed.parse(await json("ls"));
      expect(sandboxes.map((one) => one.handle)).not.toContain(handle);
    }, 60_000);

    test("a harness that takes all the memory is told as that, with the limit and the setting", async () => {
      const resources = { memoryMib: 64 };
      const sandbox = { ...inDocker.sandbox, resources };
      const prompt = "echo first; busybox tail /dev/zero";
      const events = await lab.run({ harness: "shell", sandbox, prompt });
      expect(outputOf(events)).toContain("first");
      expect(payloadOf(events, "run.failed")).toMatchObject({
        code: "out_of_memory",
        detail: expect.stringContaining("ran out of memory (its limit is 64 MiB) during the run"),
        fix: expect.stringContaining("sandbox.resources.memoryMib, such as 128"),
      });
    }, 60_000);

    test("a harness's program that takes all the memory is told as that where harnessd lives on", async () => {
      const sandbox = { ...inDocker.sandbox, resources: { memoryMib: 256 } };
      const thread = `t-${randomUUID()}`;
      const prompt = "busybox tail /dev/zero";
      const events = await lab.run({ harness: "shell", sandbox, thread, prompt });
      expect(payloadOf(events, "run.failed")).toMatchObject({
        code: "out_of_memory",
        detail: expect.stringContaining("its limit is 256 MiB"),
      });
      const { handle } = z.object({ handle: z.string() }).parse(payloadOf(events, "sandbox.ready"));
      expect(await json("inspect", handle)).toMatchObject({ status: "running" });
    }, 60_000);

    test("a run that fails for another reason in a sandbox that once lacked memory is not told so", async () => {
      // Enough for harnessd to be the smaller one: the kernel ends the largest.
      const sandbox = { ...inDocker.sandbox, resources: { memoryMib: 256 } };
      const thread = `t-${randomUUID()}`;
      const survived = await lab.run({
        harness: "shell",
        sandbox,
        thread,
        prompt: "busybox tail /dev/zero; echo after",
      });
      expect(outputOf(survived)).toContain("after");
      expect(survived.at(-1)?.type).toBe("run.completed");
      const events = await lab.run({ harness: "shell", sandbox, thread, prompt: "exit 3" });
      expect(payloadOf(events, "run.failed")).toMatchObject({
        code: "harness_failed",
        exitCode: 3,
      });
    }, 60_000);
  },
);
