import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { z } from "zod";
import { type Lab, outputOf, startLab } from "../support/e2e-lab.ts";
import { dockerAnswers, isSkipped } from "../support/engines.ts";
import { takeSnapshot } from "../support/leftovers.ts";
import { runDeco } from "../support/run-deco.ts";

const Status = z.looseObject({
  warm: z.looseObject({ ready: z.int(), memoryMib: z.int(), leased: z.int() }),
});

describe.skipIf(isSkipped("Docker engine", await dockerAnswers()))(
  "sandboxes that a daemon makes ahead",
  () => {
    let lab: Lab;
    const link = () =>
      lab.link({ args: ["--local-sandbox-provider", "docker", "--warm-sandboxes", "1"] });
    const status = async (...args: string[]) =>
      (await runDeco(["status", ...args], { home: lab.home })).stdout;
    const warm = async () => Status.parse(JSON.parse(await status("--json"))).warm;
    const oneReady = async () => {
      while ((await warm()).ready !== 1) await Bun.sleep(100);
    };
    const run = async (env: Record<string, string>) => {
      const sandbox = { provider: "docker", egress: "none", env };
      const prompt = "env; ls -A /workspace; touch /workspace/canary";
      const events = await lab.run({ harness: "shell", sandbox, prompt });
      const stages = events.filter(({ type }) => type === "sandbox.provisioning");
      return { text: outputOf(events), stages: stages.map(({ payload }) => payload["stage"]) };
    };
    const spares = async () => {
      const { containers } = await takeSnapshot(lab.home);
      return [...containers].filter((line) => / deco-\w+-w-[0-9a-f]{16} /.test(line));
    };

    beforeAll(async () => {
      lab = await startLab();
    }, 60_000);
    afterAll(async () => {
      await lab?.[Symbol.asyncDispose]();
    }, 60_000);

    test("a run gets one with its own environment and nothing of the run before; status tells of them", async () => {
      const first = await link();
      expect(await warm()).toMatchObject({ ready: 0, leased: 0 });
      const cold = await run({ MINE: "canary-1" });
      expect(cold.stages).toContain("boot");
      expect(cold.text).toContain("MINE=canary-1\n");
      await oneReady();
      const leased = await run({ OTHER: "value-2" });
      expect(leased.stages).toContain("lease");
      expect(leased.stages).not.toContain("boot");
      expect(leased.text).toContain("OTHER=value-2\n");
      expect(leased.text).not.toContain("canary");
      await oneReady();
      expect(await status()).toMatch(/^warm +ready=1 memoryMib=[1-9]\d? leased=1$/m);

      const before = await spares();
      expect(before).toHaveLength(1);
      first.child.kill("SIGKILL");
      await first.ended;
      const second = await link();
      while ((await spares()).some((line) => before.includes(line))) await Bun.sleep(100);
      await run({});
      await oneReady();
      second.child.kill("SIGTERM");
      expect((await second.ended).code).toBe(143);
      expect(await spares()).toEqual([]);
    }, 120_000);
  },
);
