import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { isEnd, payloadOf } from "../../support/e2e-lab.ts";
import { dockerAnswers, isSkipped } from "../../support/engines.ts";
import { between, chanceOf, isSoak, seedOf, summary, tally } from "../../support/fault-chance.ts";
import { killHarnessd } from "../../support/fault-harnessd.ts";
import { FaultLab } from "../../support/fault-lab.ts";
import { counting, numbered } from "../../support/fault-text.ts";

const hasDocker = await dockerAnswers();
const LIMIT_MS = 1_800_000;
const LINES = 12_000;

/** A kill ends its run: so many runs, each killed behind a line up to `within`. */
const FORM = {
  process: isSoak
    ? { kills: 50, within: 10_000, events: 100_000 }
    : { kills: 2, within: 300, events: 1 },
  docker: isSoak
    ? { kills: 20, within: 2000, events: 10_000 }
    : { kills: 1, within: 300, events: 1 },
} as const;

for (const provider of ["process", "docker"] as const) {
  const { kills, within, events: atLeast } = FORM[provider];
  const skipped = provider === "docker" && isSkipped("Docker engine", hasDocker);
  describe.skipIf(skipped)(`kill -9 of harnessd, runs in ${provider}`, () => {
    const chance = chanceOf(seedOf(`kill-harnessd ${provider}`));
    let lab: FaultLab;

    beforeAll(async () => {
      lab = await FaultLab.start();
      await lab.startLink(provider);
    }, 90_000);
    afterAll(() => lab?.[Symbol.asyncDispose](), 60_000);

    test(
      `${kills} times: nothing can go on, so the run fails, typed, behind everything that came before; the next one works`,
      async () => {
        const codes: string[] = [];
        const took: number[] = [];
        let events = 0;
        for (let kill = 0; kill < kills; kill += 1) {
          const runId = await lab.dispatch(provider, counting(LINES, 1, 0.001));
          const reader = lab.read(runId);
          const point = between(chance, 1, within);
          await reader.until(() => reader.lines >= point);
          const seen = reader.output.length;
          const killedAt = performance.now();
          await killHarnessd(provider, String(payloadOf(reader.events, "sandbox.ready")["id"]));
          await reader.ended;
          took.push(performance.now() - killedAt);
          expect(reader.events.filter(isEnd).map(({ type }) => type)).toEqual(["run.failed"]);
          const { code, leg } = reader.last?.payload ?? {};
          codes.push(`${String(leg)}/${String(code)}`);
          expect({ ...reader.last?.payload }).toMatchObject({
            code: expect.stringMatching(/^(sandbox_lost|harness_unreachable|harness_failed)$/),
            leg: expect.stringMatching(/^(sandbox|harness)$/),
            detail: expect.stringMatching(/./),
            fix: expect.stringMatching(/./),
          });
          expect(numbered(LINES).startsWith(reader.output)).toBe(true);
          expect(reader.output.length).toBeGreaterThanOrEqual(seen);
          await lab.expectLogged(reader);
          events += reader.events.length;
        }
        const next = lab.read(await lab.dispatch(provider, counting(20, 20, 0)));
        await lab.expectWhole(next, 20);
        const promise = "kill -9 of harnessd: run.failed";
        const more = { ends: tally(codes) };
        summary({ promise, provider, faults: kills, events, times: took, more });
        expect(events).toBeGreaterThanOrEqual(atLeast);
      },
      LIMIT_MS,
    );

    test("nothing is left behind", async () => {
      expect(await lab.leftBehind()).toEqual([]);
    }, 60_000);
  });
}
