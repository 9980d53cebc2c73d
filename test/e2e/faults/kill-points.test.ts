import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isEnd, payloadOf } from "../../support/e2e-lab.ts";
import { dockerAnswers, isSkipped } from "../../support/engines.ts";
import {
  between,
  chanceOf,
  isSoak,
  percentiles,
  points,
  report,
  seedOf,
} from "../../support/fault-chance.ts";
import { killHarnessd } from "../../support/fault-harnessd.ts";
import { counting, FaultLab, firstDifference, numbered } from "../../support/fault-lab.ts";
import type { RunReader } from "../../support/fault-reader.ts";

const hasDocker = await dockerAnswers();
const LIMIT_MS = 900_000;

/** Lines, with a rest after each: about one event a line. */
const FORM = {
  process: { lines: 13_000, rounds: isSoak ? 10 : 1, kills: 10, harnessd: isSoak ? 50 : 2 },
  docker: { lines: 1500, rounds: 1, kills: isSoak ? 10 : 2, harnessd: isSoak ? 10 : 1 },
} as const;

for (const provider of ["process", "docker"] as const) {
  const { lines, rounds, kills, harnessd } = FORM[provider];
  const skipped = provider === "docker" && isSkipped("Docker engine", hasDocker);
  describe.skipIf(skipped)(`kill -9 at random points of a run in ${provider}`, () => {
    const chance = chanceOf(seedOf(`kill-points ${provider}`));
    const adopted: number[] = [];
    let lab: FaultLab;
    let events = 0;

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
      const seen = reader.events.length;
      const startedAt = performance.now();
      await lab.startLink(provider);
      if (!(reader.last && isEnd(reader.last)))
        await reader.until(() => reader.events.length > seen);
      adopted.push(performance.now() - startedAt);
    };
    const killHub = async () => {
      await lab.killHub();
      await lab.startHub();
    };

    test(
      `daemon and hub, ${rounds * kills} times: every line once, and the logs' bytes stay`,
      async () => {
        for (let round = 0; round < rounds; round += 1) {
          const runId = await lab.dispatch(provider, counting(lines, 1, 0.001));
          const reader = lab.read(runId, { limitMs: LIMIT_MS });
          let turn = between(chance, 0, 2);
          for (const point of points(chance, kills, 1, Math.floor(lines * 0.9))) {
            await reader.until(() => reader.lines >= point);
            await sleep(between(chance, 0, 50));
            turn += 1;
            await (turn % 2 === 0 ? killDaemon(reader) : killHub());
          }
          await lab.expectWhole(reader, lines);
          const before = await lab.logs(runId);
          await Promise.all([lab.killHub(), lab.killLink()]);
          await lab.startHub();
          await lab.startLink(provider);
          expect(firstDifference(await lab.logs(runId), before)).toBeUndefined();
          events += reader.events.length;
        }
        report(
          `kill-points ${provider}: ${rounds * kills} kills, ${events} events, lost 0, doubled 0`,
        );
        report(`adoption after kill -9, ${provider}: ${percentiles(adopted)}`);
      },
      LIMIT_MS,
    );

    test(
      `harnessd, ${harnessd} times: the run fails, typed, behind everything that came before`,
      async () => {
        for (let kill = 0; kill < harnessd; kill += 1) {
          const reader = lab.read(await lab.dispatch(provider, counting(5000, 1, 0.001)));
          const point = between(chance, 1, 300);
          await reader.until(() => reader.lines >= point);
          const seen = reader.output.length;
          await killHarnessd(provider, String(payloadOf(reader.events, "sandbox.ready")["id"]));
          await reader.ended;
          expect(reader.events.filter(isEnd).map(({ type }) => type)).toEqual(["run.failed"]);
          expect(reader.last?.payload).toMatchObject({
            code: expect.stringMatching(/^(sandbox|harness)/),
            leg: expect.stringMatching(/^(sandbox|harness)$/),
            detail: expect.stringMatching(/./),
            fix: expect.stringMatching(/./),
          });
          expect(numbered(5000).startsWith(reader.output)).toBe(true);
          expect(reader.output.length).toBeGreaterThanOrEqual(seen);
        }
      },
      LIMIT_MS,
    );

    test("nothing is left behind", async () => {
      expect(await lab.leftBehind()).toEqual([]);
    }, 60_000);
  });
}
