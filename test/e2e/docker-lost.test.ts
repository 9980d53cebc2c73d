import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { httpRequest } from "../../src/net/http-request.ts";
import type { RunEvent } from "../../src/protocol/run-events.ts";
import { canOwnEngine, type OwnEngine, ownEngine } from "../support/e2e-engine.ts";
import {
  type Lab,
  outputOf,
  payloadOf,
  receiptOf,
  seqsOf,
  startLab,
  upTo,
} from "../support/e2e-lab.ts";
import { isSkipped } from "../support/engines.ts";

describe.skipIf(isSkipped("dockerd that this user may start", canOwnEngine))(
  "Docker stops in mid-provision",
  () => {
    let engine: OwnEngine;
    let lab: Lab;

    beforeAll(async () => {
      engine = await ownEngine();
      lab = await startLab();
      await lab.link({
        args: ["--docker-host", engine.host, "--local-sandbox-provider", "docker"],
      });
    }, 90_000);
    afterAll(async () => {
      await lab?.[Symbol.asyncDispose]();
      await engine?.[Symbol.asyncDispose]();
    }, 60_000);

    const run = {
      harness: "shell",
      prompt: "echo made",
      sandbox: { provider: "docker", egress: "none" },
    };
    const health = async () => {
      const signal = AbortSignal.timeout(2000);
      const { controlSocket: socketPath } = lab.paths;
      return (await httpRequest({ socketPath, path: "/healthz", signal })).json();
    };
    /** A run whose engine is killed as soon as that stage begins. */
    const runWithout = async (stage: string): Promise<RunEvent[]> => {
      const events: RunEvent[] = [];
      for await (const event of lab.events(await lab.dispatch(run))) {
        events.push(event);
        if (event.type !== "sandbox.provisioning" || event.payload["stage"] !== stage) continue;
        await engine.kill();
        expect(await health()).toEqual({ status: "ok" });
      }
      return events;
    };
    const failure = {
      code: expect.stringMatching(/^(docker_unavailable|sandbox_failed)$/),
      leg: "sandbox",
      detail: expect.stringMatching(/./),
      fix: expect.stringMatching(/./),
    };

    test("while the image is made: run.failed names the leg and the fix, and the daemon is well", async () => {
      const events = await runWithout("image");
      expect(seqsOf(events)).toEqual(upTo(events.length));
      expect(payloadOf(events, "run.failed")).toMatchObject(failure);
    }, 90_000);

    test("a run that comes while it is down fails in the same way, and never in the open", async () => {
      const events = await lab.run(run);
      expect(payloadOf(events, "run.failed")).toMatchObject({
        ...failure,
        code: "docker_unavailable",
      });
      expect(outputOf(events)).toBe("");
    }, 90_000);

    test("back again it makes the sandbox, with no word to the daemon", async () => {
      await engine.start();
      const events = await lab.run(run);
      expect(outputOf(events)).toBe("made\n");
      expect(receiptOf(events)).toMatchObject({ provider: "docker", processesLeft: 0 });
    }, 120_000);

    test("while the container starts: the same, typed and at once", async () => {
      const events = await runWithout("boot");
      expect(payloadOf(events, "run.failed")).toMatchObject(failure);
    }, 90_000);
  },
);
