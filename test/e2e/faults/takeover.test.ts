import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { isEnd } from "../../support/e2e-lab.ts";
import { dockerAnswers, isSkipped } from "../../support/engines.ts";
import { between, chanceOf, isSoak, seedOf, summary, tally } from "../../support/fault-chance.ts";
import { FaultLab } from "../../support/fault-lab.ts";
import type { RunReader } from "../../support/fault-reader.ts";
import { counting, numbered } from "../../support/fault-text.ts";
import { copiedHome, journalledRuns } from "../../support/fault-twins.ts";
import type { RunningDeco } from "../../support/run-deco.ts";

const hasDocker = await dockerAnswers();
/** Before each takeover `runs` are dispatched; in a fraction of the turns none. */
const FORM = {
  process: isSoak ? { takeovers: 1000, quiet: 0.8, runs: 1 } : { takeovers: 3, quiet: 0, runs: 3 },
  docker: isSoak ? { takeovers: 50, quiet: 0.4, runs: 2 } : { takeovers: 2, quiet: 0, runs: 1 },
} as const;
const LIMIT_MS = isSoak ? 2_400_000 : 300_000;
const LINES = 40;

for (const provider of ["process", "docker"] as const) {
  const { takeovers, quiet, runs } = FORM[provider];
  const skipped = provider === "docker" && isSkipped("Docker engine", hasDocker);
  describe.skipIf(skipped)(`two daemons with one identity, runs in ${provider}`, () => {
    const chance = chanceOf(seedOf(`takeover ${provider}`));
    let lab: FaultLab;
    let copy: string;
    const homeOf = (turn: number) => (turn % 2 === 0 ? lab.home : copy);

    beforeAll(async () => {
      lab = await FaultLab.start();
      copy = await copiedHome(lab, provider);
    }, 60_000);
    afterAll(async () => {
      await lab?.[Symbol.asyncDispose]();
      await rm(copy, { recursive: true, force: true });
    }, 60_000);

    const dispatchSome = async (readers: RunReader[]) => {
      if (chance() < quiet) return;
      for (let run = 0; run < runs; run += 1) {
        await sleep(between(chance, 0, 700));
        const runId = await lab.dispatch(provider, counting(LINES, 1, 0.02)).catch(() => "");
        if (runId !== "") readers.push(lab.read(runId, { mayBeTakenBack: true }));
      }
    };
    test(
      `take over ${takeovers} times under dispatch: the older leaves with 9 and says why, each reader has one whole log`,
      async () => {
        const readers: RunReader[] = [];
        /** Milliseconds from the start of the newer one's process to the end of the older one's. */
        const gone: number[] = [];
        let older: RunningDeco | undefined;
        for (let turn = 0; turn <= takeovers; turn += 1) {
          const startedAt = performance.now();
          const left = older?.ended.then(() => performance.now() - startedAt);
          const starting = lab.startLink(provider, { home: homeOf(turn) });
          if (turn > 0) await dispatchSome(readers);
          const newer = await starting;
          if (left) gone.push(await left);
          if (older) await expectSuperseded(older);
          older = newer;
        }
        const prompt = counting(LINES, 1, 0.02);
        const last = lab.read(await lab.dispatchWhenFree(provider, prompt));
        await lab.expectWhole(last, LINES);
        for (const reader of readers) await expectRight(reader);
        for (const reader of readers.slice(-20)) await lab.expectLogged(reader);
        await lab.killLink("SIGTERM");
        // A daemon that was superseded leaves its sandboxes to the next one on its home.
        await lab.startLink(provider, { home: homeOf(takeovers + 1) });
        await lab.killLink("SIGTERM");
        const [mine, other] = [journalledRuns(lab.home), journalledRuns(copy)];
        const twice = [...mine].filter(([runId]) => other.has(runId));
        const ends = tally(
          readers.map((reader) => `${reader.last?.type} ${String(reader.last?.payload["code"])}`),
        );
        summary({
          promise: "daemons take over from each other: the older exits 9",
          provider,
          faults: gone.length,
          events: readers.reduce((sum, { events }) => sum + events.length, 0),
          times: gone,
          more: { runs: readers.length, ends, dispatchedAnew: twice.length },
        });
        expect(gone).toHaveLength(takeovers);
        // A dispatch whose 202 was lost in a takeover: the older copy is cancelled and drained.
        expect(twice.length).toBeLessThanOrEqual(takeovers);
        expect(mine.size + other.size).toBeGreaterThan(0);
      },
      LIMIT_MS,
    );

    test("nothing is left behind", async () => {
      expect(await lab.leftBehind()).toEqual([]);
    }, 60_000);
  });
}

async function expectSuperseded({ ended }: RunningDeco): Promise<void> {
  const { code, stdout, stderr } = await ended;
  const why = /"code":"superseded"/.test(stdout) || stderr;
  expect({ code, why }).toEqual({ code: 9, why: true });
}

async function expectRight(reader: RunReader): Promise<void> {
  await reader.ended;
  const { events, output, last } = reader;
  expect(numbered(LINES).startsWith(output)).toBe(true);
  expect(events.filter(isEnd)).toHaveLength(1);
  if (last?.type === "run.completed") expect(output).toBe(numbered(LINES));
}
