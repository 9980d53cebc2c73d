import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { dockerAnswers, isSkipped } from "../../support/engines.ts";
import { isSoak, percentiles, report } from "../../support/fault-chance.ts";
import { counting, FaultLab } from "../../support/fault-lab.ts";
import { until } from "../../support/hub-fixture.ts";

const hasDocker = await dockerAnswers();
/** Longer than the hub's patience with a link, and than three heartbeats of a tunnel. */
const STOPPED = { process: isSoak ? 60_000 : 12_000, docker: isSoak ? 60_000 : 7000 } as const;
const NAPS = isSoak ? 12 : 0;
const LIMIT_MS = 600_000;
const LINES = 600;

for (const provider of ["process", "docker"] as const) {
  const stoppedMs = STOPPED[provider];
  const skipped = provider === "docker" && isSkipped("Docker engine", hasDocker);
  describe.skipIf(skipped)(`stopped for ${stoppedMs / 1000} s, runs in ${provider}`, () => {
    let lab: FaultLab;
    const back: number[] = [];

    beforeAll(async () => {
      lab = await FaultLab.start({ heartbeatMs: 1000, ttlMs: 3000 });
      await lab.startLink(provider);
    }, 90_000);
    afterAll(() => lab?.[Symbol.asyncDispose](), 60_000);

    const reachable = async () => (await lab.links()).some((link) => link.reachable);
    /** A run of which the stopped one sees neither the middle nor, mostly, the end. */
    const runWhileStopped = async (child: () => ChildProcess, forMs: number, away: boolean) => {
      const reader = lab.read(await lab.dispatch(provider, counting(LINES, 1, 0.004)));
      await reader.until(() => reader.lines >= 20);
      child().kill("SIGSTOP");
      await sleep(forMs);
      if (away) expect(await reachable()).toBe(false);
      const wokenAt = performance.now();
      child().kill("SIGCONT");
      await until(reachable);
      back.push(performance.now() - wokenAt);
      await lab.expectWhole(reader, LINES);
    };

    test(
      "the daemon: the hub sees it gone; it comes back by itself, and its run is whole",
      async () => {
        const { pid } = lab.link.child;
        await runWhileStopped(() => lab.link.child, stoppedMs, true);
        for (let nap = 0; nap < NAPS; nap += 1)
          await runWhileStopped(() => lab.link.child, 8000, true);
        expect(lab.link.child.exitCode).toBeNull();
        expect(lab.link.child.pid).toBe(pid ?? 0);
        report(`reachable after a wake (SIGCONT), ${provider}: ${percentiles(back)}`);
      },
      LIMIT_MS,
    );

    // With one provider it is enough: the hub knows nothing of them.
    if (provider === "process") {
      test(
        "the hub: every reader gets the run, whole",
        async () => {
          await runWhileStopped(() => lab.hub, stoppedMs, false);
        },
        LIMIT_MS,
      );
    }

    test("nothing is left behind", async () => {
      expect(await lab.leftBehind()).toEqual([]);
    }, 60_000);
  });
}
