import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isSoak, report, summary } from "../../support/fault-chance.ts";
import type { RunReader } from "../../support/fault-reader.ts";
import { counting } from "../../support/fault-text.ts";
import { ImpairedLab } from "../../support/impaired-lab.ts";
import { isSuiteSkipped, namespacesLeft, noNetworksBecause } from "../../support/net-namespace.ts";

const LINES = isSoak ? 20_000 : 2000;
const LIMIT_MS = isSoak ? 600_000 : 60_000;
const MB = 1_000_000;
const fix = "run as root, and: npm run engines (it installs iproute2 and nftables)";

describe.skipIf(isSuiteSkipped("bad-network", noNetworksBecause(), fix))("a bad network", () => {
  let lab: ImpairedLab;
  const reconnects: number[] = [];

  beforeAll(async () => {
    lab = await ImpairedLab.start();
  }, 60_000);
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    expect(namespacesLeft()).toEqual([]);
  }, 30_000);

  /** A line is some 50 bytes of event: 3,000 of them in 300 pieces, with a rest after each. */
  const start = () => lab.run(counting(LINES, 10, 0.005));
  const whole = async (what: string, reader: RunReader, startedAt: number) => {
    await lab.expectWhole(reader, LINES);
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    report(`bad-network, ${what}: ${LINES} lines, ${reader.events.length} events in ${seconds} s`);
    const { length: events } = reader.events;
    summary({
      promise: `bad network: ${what}`,
      provider: "process",
      faults: 1,
      events,
      more: { seconds },
    });
  };
  const plainTcp = async (bytes: number) => {
    const { rttMs, bytesPerSecond } = await lab.path.probe(bytes);
    const text = `plain TCP: RTT ${rttMs.toFixed(1)} ms, ${(bytesPerSecond / MB).toFixed(2)} MB/s`;
    return { rttMs, bytesPerSecond, text };
  };

  test(
    "of 1 MB/s: a run that prints more than that comes whole",
    async () => {
      await lab.path.limitRate(MB);
      const plain = await plainTcp(MB);
      expect(plain.bytesPerSecond).toBeWithin(0.7 * MB, 1.2 * MB);
      const startedAt = performance.now();
      const megabytes = isSoak ? 100 : 3;
      const flood = lab.run(`head -c ${megabytes * MB} /dev/zero | tr '\\0' x; echo; exit 0`);
      const [reader, large] = await Promise.all([start(), flood]);
      await whole(`1 MB/s (${plain.text})`, reader, startedAt);
      await large.ended;
      expect(large.output.length).toBe(megabytes * MB + 1);
      expect(large.last?.type).toBe("run.completed");
      await lab.expectLogged(large);
      const seconds = (performance.now() - startedAt) / 1000;
      report(
        `bad-network, ${megabytes} MB of output over 1 MB/s beside it: ${seconds.toFixed(1)} s`,
      );
      expect((await lab.status()).state).toBe("online");
      await lab.path.heal();
    },
    LIMIT_MS,
  );

  test(
    "that loses 2 % of its packets, both ways",
    async () => {
      await lab.path.lose(2);
      const plain = await plainTcp(2 * MB);
      await lab.path.lose(2);
      const startedAt = performance.now();
      await whole(`2 % loss (${plain.text})`, await start(), startedAt);
      const { came, dropped } = await lab.path.dropped();
      report(`bad-network, 2 % loss: ${dropped} of ${came} packets of the run dropped`);
      expect(dropped).toBeGreaterThan(0);
      await lab.path.heal();
    },
    LIMIT_MS,
  );

  test(
    "that is a black hole for some seconds: found on both ends, and back by itself",
    async () => {
      const reader = await start();
      const startedAt = performance.now();
      for (const lines of isSoak ? [0.1, 0.2, 0.3, 0.4, 0.5] : [0.4]) {
        await reader.until(() => reader.lines >= lines * LINES);
        await lab.path.lose(100);
        const foundMs = await lab.untilReachable(false, 30_000);
        // The daemon finds it out by itself, too, and answers all the while.
        while ((await lab.status()).tunnel === "up") await sleep(20);
        await lab.path.heal();
        const backMs = await lab.untilReachable(true, 30_000);
        reconnects.push(backMs);
        report(
          `bad-network, black hole: the hub knew after ${Math.round(foundMs)} ms, back in ${Math.round(backMs)} ms`,
        );
      }
      await whole("black holes", reader, startedAt);
    },
    LIMIT_MS,
  );

  test(
    "that takes 100 ms each way",
    async () => {
      await lab.path.shape({ delayMs: 100 });
      const plain = await plainTcp(MB);
      expect(plain.rttMs).toBeWithin(195, 300);
      const startedAt = performance.now();
      await whole(`100 ms each way (${plain.text})`, await start(), startedAt);
    },
    LIMIT_MS,
  );

  test(
    "whose packets overtake each other",
    async () => {
      await lab.path.shape({ delayMs: 5, heldBack: 0.1, heldBackMs: 30 });
      const plain = await plainTcp(MB);
      const before = await lab.path.shape({ delayMs: 5, heldBack: 0.1, heldBackMs: 30 });
      const startedAt = performance.now();
      await whole(`one in ten packets 30 ms late (${plain.text})`, await start(), startedAt);
      const after = await lab.path.shape({ delayMs: 0 });
      report(
        `bad-network, reordering: ${after.heldBack - before.heldBack} of ${after.packets - before.packets} packets of the run overtaken`,
      );
      expect(after.heldBack).toBeGreaterThan(before.heldBack);
      await lab.path.heal();
    },
    LIMIT_MS,
  );

  test(
    "that gives the laptop another address in mid-run: the link comes back by itself",
    async () => {
      const reader = await start();
      const startedAt = performance.now();
      await reader.until(() => reader.lines >= LINES / 4);
      await lab.path.moveNear("10.213.7.3", 200);
      const moved = performance.now();
      const seen = reader.events.length;
      await reader.until(() => reader.events.length > seen);
      const backMs = performance.now() - moved;
      reconnects.push(backMs);
      await lab.untilReachable(true, 30_000);
      await whole("another address", reader, startedAt);
      report(`bad-network, events again after another address: ${Math.round(backMs)} ms`);
      expect((await lab.status()).state).toBe("online");
      expect(Math.max(...reconnects)).toBeLessThan(15_000);
    },
    LIMIT_MS,
  );
});
