import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { deferred } from "../../src/protocol/deferred.ts";
import type { RunEvent } from "../../src/protocol/run-events.ts";
import { type Lab, startLab } from "../support/e2e-lab.ts";

const LIMIT_MS = 90_000;

describe("a daemon that is told to stop with a run in work", () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await startLab();
  }, LIMIT_MS);
  afterAll(() => lab?.[Symbol.asyncDispose](), LIMIT_MS);

  /** A run that has said its first word, and what it says until its end. */
  const working = async (prompt: string) => {
    const runId = await lab.dispatch({
      harness: "shell",
      prompt,
      sandbox: { provider: "process" },
    });
    const spoke = deferred();
    const reading = async () => {
      let last: RunEvent | undefined;
      for await (const event of lab.events(runId)) {
        last = event;
        if (event.type === "tool.output.delta") spoke.resolve();
      }
      return last;
    };
    const end = reading();
    await Promise.race([spoke.promise, end]);
    return { runId, end };
  };

  test(
    "says what it waits for, and leaves when the hub has the end of that",
    async () => {
      const link = await lab.link();
      const { runId, end } = await working("echo one; sleep 3; echo two");
      link.child.kill("SIGTERM");
      await link.until(new RegExp(`draining: up to \\d+ s for ${runId}`));
      expect((await link.ended).code).toBe(143);
      expect((await end)?.type).toBe("run.completed");
    },
    LIMIT_MS,
  );

  test(
    "leaves at once with the second signal; the run is the next daemon's",
    async () => {
      const link = await lab.link();
      const { runId, end } = await working("echo one; sleep 6; echo two");
      link.child.kill("SIGTERM");
      await link.until(new RegExp(`draining: .*${runId}`));
      const at = performance.now();
      link.child.kill("SIGTERM");
      expect((await link.ended).code).toBe(143);
      expect(performance.now() - at).toBeLessThan(2000);
      const next = await lab.link();
      expect(await end).toMatchObject({ type: "run.completed", payload: { exitCode: 0 } });
      next.child.kill("SIGTERM");
      expect((await next.ended).code).toBe(143);
      expect(await lab.leftBehind()).toEqual([]);
    },
    LIMIT_MS,
  );
});
