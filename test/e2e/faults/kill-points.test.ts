import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isEnd } from "../../support/e2e-lab.ts";
import { dockerAnswers, isSkipped } from "../../support/engines.ts";
import {
  between,
  chanceOf,
  isSoak,
  points,
  quantile,
  seedOf,
  summary,
} from "../../support/fault-chance.ts";
import { FaultLab } from "../../support/fault-lab.ts";
import type { RunReader } from "../../support/fault-reader.ts";
import { counting, firstDifference } from "../../support/fault-text.ts";

const hasDocker = await dockerAnswers();
const LIMIT_MS = 1_200_000;
/** On a machine that does a lot else; measured is about 1 s. */
const ADOPTED_P95_MS = 15_000;

interface Form {
  readonly targets: readonly ("daemon" | "hub")[];
  /** With a rest after each: about one event a line, but for what gathers while the daemon is dead. */
  readonly lines: number;
  readonly restSeconds: number;
  readonly kills: number;
  /** At least. */
  readonly events: number;
}

const both = ["daemon", "hub"] as const;
const LONG: readonly Form[] = [
  { targets: ["daemon"], lines: 18_000, restSeconds: 0.008, kills: 50, events: 10_000 },
  { targets: ["hub"], lines: 13_000, restSeconds: 0.003, kills: 50, events: 10_000 },
];
const SHORT = {
  process: [{ targets: both, lines: 13_000, restSeconds: 0.001, kills: 10, events: 4000 }],
  docker: [{ targets: both, lines: 4000, restSeconds: 0.002, kills: 2, events: 100 }],
} satisfies Record<string, readonly Form[]>;

for (const provider of ["process", "docker"] as const) {
  const skipped = provider === "docker" && isSkipped("Docker engine", hasDocker);
  describe.skipIf(skipped)(`kill -9 at random points of a run in ${provider}`, () => {
    const chance = chanceOf(seedOf(`kill-points ${provider}`));
    /** From the start of the next daemon to the run's next event, of all kills. */
    const adopted: number[] = [];
    let lab: FaultLab;

    beforeAll(async () => {
      lab = await FaultLab.start();
      await lab.startLink(provider);
    }, 90_000);
    afterAll(() => lab?.[Symbol.asyncDispose](), 60_000);

    const killDaemon = async (reader: RunReader) => {
      await lab.killLink();
      // Now and then the next one dies on its way up.
      if (chance() < 0.2) {
        await lab.startLink(provider, { online: false });
        await sleep(between(chance, 0, 1500));
        await lab.killLink();
      }
      // What the hub had before has come when nothing comes any more.
      for (let seen = -1; seen < reader.events.length; await sleep(50)) seen = reader.events.length;
      const seen = reader.events.length;
      const startedAt = performance.now();
      const starting = lab.startLink(provider);
      if (!(reader.last && isEnd(reader.last))) {
        await reader.until(() => reader.events.length > seen);
        adopted.push(performance.now() - startedAt);
      }
      await starting;
    };
    const killHub = async () => {
      await lab.killHub();
      await lab.startHub();
    };

    for (const form of isSoak ? [...LONG, ...SHORT[provider]] : SHORT[provider]) {
      const { targets, lines, kills } = form;
      test(
        `${targets.join(" and ")}, ${kills} times in a run of ${form.events} events or more: every line once, and the logs' bytes stay`,
        async () => {
          const runId = await lab.dispatch(provider, counting(lines, 1, form.restSeconds));
          const reader = lab.read(runId, { limitMs: LIMIT_MS });
          let killed = 0;
          let ended = 0;
          for (const point of points(chance, kills, 1, Math.floor(lines * 0.95))) {
            await reader.until(() => reader.lines >= point);
            await sleep(between(chance, 0, 50));
            if (reader.last && isEnd(reader.last)) ended += 1;
            const target = targets[killed % targets.length];
            await (target === "daemon" ? killDaemon(reader) : killHub());
            killed += 1;
          }
          await lab.expectWhole(reader, lines);
          const before = await lab.logs(runId);
          await Promise.all([lab.killHub(), lab.killLink()]);
          await lab.startHub();
          await lab.startLink(provider);
          expect(firstDifference(await lab.logs(runId), before)).toBeUndefined();
          const events = reader.events.length;
          const promise = `kill -9 of ${targets.join(" and ")}`;
          summary({ promise, provider, faults: killed, events, more: { behindTheEnd: ended } });
          expect({ killed, ended }).toEqual({ killed: kills, ended: 0 });
          expect(events).toBeGreaterThanOrEqual(form.events);
        },
        LIMIT_MS,
      );
    }

    test("a run is adopted soon after kill -9 of its daemon", () => {
      const promise = "daemon started after kill -9: the run's next event";
      summary({ promise, provider, faults: adopted.length, times: adopted });
      expect(adopted.length).toBeGreaterThan(0);
      expect(quantile(adopted, 0.95)).toBeLessThan(ADOPTED_P95_MS);
    });

    test("nothing is left behind", async () => {
      expect(await lab.leftBehind()).toEqual([]);
    }, 60_000);
  });
}
