import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { dockerAnswers, isSkipped } from "../../support/engines.ts";
import { isSoak, quantile, summary } from "../../support/fault-chance.ts";
import { FaultLab } from "../../support/fault-lab.ts";

const hasDocker = await dockerAnswers();
/** p95 of so many is their last but one. */
const CANCELS = { process: isSoak ? 50 : 20, docker: isSoak ? 50 : 2 } as const;
const LIMIT_MS = 600_000;

/** Deaf to SIGTERM, with a child that forked twice and is as deaf. */
const deaf = `trap '' TERM
(setsid sh -c 'trap "" TERM HUP INT; echo hidden; while :; do sleep 1; done' &)
while :; do sleep 1; done`;

for (const provider of ["process", "docker"] as const) {
  const skipped = provider === "docker" && isSkipped("Docker engine", hasDocker);
  describe.skipIf(skipped)(`a cancel while online, runs in ${provider}`, () => {
    let lab: FaultLab;

    beforeAll(async () => {
      lab = await FaultLab.start();
      await lab.startLink(provider);
    }, 90_000);
    afterAll(() => lab?.[Symbol.asyncDispose](), 60_000);

    test(
      `${CANCELS[provider]} of programs deaf to SIGTERM: nothing is left, p95 within 2 s`,
      async () => {
        const took: number[] = [];
        let events = 0;
        for (let cancel = 0; cancel < CANCELS[provider]; cancel += 1) {
          const runId = await lab.dispatch(provider, deaf);
          const reader = lab.read(runId);
          await reader.until(() => reader.lines === 1);
          const askedAt = performance.now();
          await lab.cancel(runId);
          await reader.ended;
          took.push(performance.now() - askedAt);
          await lab.expectLogged(reader);
          events += reader.events.length;
          const { type, payload } = reader.events.at(-1) ?? {};
          expect({ type, payload }).toMatchObject({
            type: "run.cancelled",
            payload: { processesLeft: 0 },
          });
        }
        const promise = "cancel to run.cancelled, processesLeft 0";
        summary({ promise, provider, faults: took.length, events, times: took });
        expect(quantile(took, 0.95)).toBeLessThan(2000);
      },
      LIMIT_MS,
    );

    test("nothing is left behind", async () => {
      expect(await lab.leftBehind()).toEqual([]);
    }, 60_000);
  });
}
