import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { dockerAnswers, isSkipped } from "../../support/engines.ts";
import { isSoak, quantile, summary } from "../../support/fault-chance.ts";
import { FaultLab } from "../../support/fault-lab.ts";
import { counting } from "../../support/fault-text.ts";
import { until } from "../../support/hub-fixture.ts";

const hasDocker = await dockerAnswers();
/** Longer than the hub's patience with a link, and than three heartbeats of a tunnel. */
const STOPPED = { process: isSoak ? 60_000 : 12_000, docker: isSoak ? 60_000 : 7000 } as const;
const NAPS = isSoak ? [500, 1000, 2000, 4000, 5000, 6000, 7000, 8000, 9000, 10_000, 12_000] : [];
/** From here on the hub has given the tunnel up. */
const AWAY_MS = 7000;
const WOKEN_P95_MS = 15_000;
const LIMIT_MS = 900_000;
const LINES = 600;

interface Wakes {
  /** Milliseconds from SIGCONT until the hub reaches the link. */
  readonly reachable: number[];
  /** Milliseconds from SIGCONT to the next event at the reader. */
  readonly nextEvent: number[];
  events: number;
}

for (const provider of ["process", "docker"] as const) {
  const stoppedMs = STOPPED[provider];
  const skipped = provider === "docker" && isSkipped("Docker engine", hasDocker);
  describe.skipIf(skipped)(`stopped for ${stoppedMs / 1000} s, runs in ${provider}`, () => {
    let lab: FaultLab;

    beforeAll(async () => {
      lab = await FaultLab.start({ heartbeatMs: 1000, ttlMs: 3000 });
      await lab.startLink(provider);
    }, 90_000);
    afterAll(() => lab?.[Symbol.asyncDispose](), 60_000);

    const reachable = async () => (await lab.links()).some((link) => link.reachable);
    /** A run of which the stopped one sees neither the middle nor, mostly, the end. */
    const nap = async (who: "daemon" | "hub", forMs: number, wakes: Wakes) => {
      const child = (): ChildProcess => (who === "hub" ? lab.hub : lab.link.child);
      // A hub that has just been woken says "reachable" until it has read that its tunnel is closed.
      await until(reachable);
      const reader = lab.read(await lab.dispatch(provider, counting(LINES, 1, 0.004)));
      await reader.until(() => reader.lines >= 20);
      child().kill("SIGSTOP");
      await sleep(forMs);
      if (who === "daemon" && forMs >= AWAY_MS) expect(await reachable()).toBe(false);
      const seen = reader.events.length;
      const wokenAt = performance.now();
      child().kill("SIGCONT");
      const next = reader
        .until(() => reader.events.length > seen)
        .then(() => performance.now() - wokenAt);
      await until(reachable);
      wakes.reachable.push(performance.now() - wokenAt);
      wakes.nextEvent.push(await next);
      await lab.expectWhole(reader, LINES);
      wakes.events += reader.events.length;
    };
    const allNaps = async (who: "daemon" | "hub") => {
      const wakes: Wakes = { reachable: [], nextEvent: [], events: 0 };
      for (const forMs of [stoppedMs, ...NAPS]) await nap(who, forMs, wakes);
      const { events, reachable: back, nextEvent } = wakes;
      const of = { provider, faults: back.length, events };
      if (who === "daemon")
        summary({ promise: "daemon woken (SIGCONT): reachable", ...of, times: back });
      summary({ promise: `${who} woken (SIGCONT): next event`, ...of, times: nextEvent });
      expect(quantile(back, 0.95)).toBeLessThan(WOKEN_P95_MS);
      expect(quantile(nextEvent, 0.95)).toBeLessThan(WOKEN_P95_MS);
    };

    test(
      "the daemon: the hub sees it gone; it comes back by itself, and its run is whole",
      async () => {
        const { pid } = lab.link.child;
        await allNaps("daemon");
        expect(lab.link.child.exitCode).toBeNull();
        expect(lab.link.child.pid).toBe(pid ?? 0);
      },
      LIMIT_MS,
    );

    // With one provider it is enough: the hub knows nothing of them.
    if (provider === "process") {
      test("the hub: every reader gets the run, whole", () => allNaps("hub"), LIMIT_MS);
    }

    test("nothing is left behind", async () => {
      expect(await lab.leftBehind()).toEqual([]);
    }, 60_000);
  });
}
