import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { decodeRequestHead, FRAME, type Frame } from "../../../src/protocol/frames.ts";
import { dockerAnswers, isSkipped } from "../../support/engines.ts";
import {
  between,
  chanceOf,
  isSoak,
  quantile,
  seedOf,
  summary,
} from "../../support/fault-chance.ts";
import { daemonMessage } from "../../support/fault-frames.ts";
import { FaultLab } from "../../support/fault-lab.ts";
import type { RunReader } from "../../support/fault-reader.ts";
import { counting } from "../../support/fault-text.ts";
import { type Fault, type Rule, shortWire } from "../../support/fault-wire.ts";

const hasDocker = await dockerAnswers();
const LIMIT_MS = isSoak ? 900_000 : 300_000;
const FORM = { process: isSoak ? 10 : 1, docker: isSoak ? 3 : 1 } as const;
const BACK_P95_MS = 10_000;
const LINES = 250;

const chance = chanceOf(seedOf("cut-tunnel"));
const text = ({ payload }: Frame) => Buffer.from(payload).toString("latin1");
const isData = (frame: Frame) => frame.type === FRAME.data && frame.payload.byteLength > 0;
const isEvent = (frame: Frame) => isData(frame) && text(frame).includes("data: {");
/** Whether a frame asks the daemon for that. */
const asks = (frame: Frame, method: string, path: RegExp) => {
  if (frame.type !== FRAME.request) return false;
  const head = decodeRequestHead(frame.payload);
  return head.method === method && path.test(head.path);
};
const ACK = /^\/v1\/runs\/[^/]+\/ack$/;

/** The rules are made anew for each use: some remember what they saw. */
const CUTS: Readonly<Record<string, () => Rule>> = {
  "in a frame, within its header": () => {
    return ({ direction, frames, bytes }) =>
      direction === "up" && frames.some(isData) ? { pass: bytes.subarray(0, 3) } : undefined;
  },
  "in a frame, somewhere in its payload": () => {
    return ({ direction, frames, bytes }) =>
      direction === "up" && frames.some(isData)
        ? { pass: bytes.subarray(0, between(chance, 15, bytes.length)) }
        : undefined;
  },
  "in an event, behind half of its line": () => halfEvent,
  "behind the last byte of an event": () => {
    return ({ direction, frames, bytes }) =>
      direction === "up" && frames.some(isEvent) ? { pass: bytes } : undefined;
  },
  "behind what was stored, before the ack": () => {
    return ({ direction, frames }) =>
      direction === "down" && frames.some((frame) => asks(frame, "POST", ACK))
        ? { pass: new Uint8Array() }
        : undefined;
  },
  "behind the ack, before its answer": () => answerLost(ACK),
};

/** Hands on a frame that ends in the middle of an event: the hub's decoder gets half a line. */
const halfEvent: Rule = ({ direction, frames }): Fault | undefined => {
  if (direction !== "up") return undefined;
  const at = frames.findIndex(isEvent);
  const frame = frames[at];
  if (frame === undefined) return undefined;
  const middle = text(frame).lastIndexOf("data: {") + between(chance, 7, 40);
  const half = { ...frame, flags: 0, payload: frame.payload.subarray(0, middle) };
  return { pass: daemonMessage([...frames.slice(0, at), half]) };
};

/** The daemon gets the request; its answer does not pass. */
function answerLost(path: RegExp): Rule {
  let stream: number | undefined;
  return ({ direction, frames }) => {
    if (direction === "down") stream ??= frames.find((frame) => asks(frame, "POST", path))?.stream;
    const answer = frames.find(({ type }) => type === FRAME.response);
    return direction === "up" && stream !== undefined && answer?.stream === stream
      ? { pass: new Uint8Array() }
      : undefined;
  };
}

for (const provider of ["process", "docker"] as const) {
  const repeats = FORM[provider];
  const skipped = provider === "docker" && isSkipped("Docker engine", hasDocker);
  describe.skipIf(skipped)(`the line to the hub breaks, runs in ${provider}`, () => {
    let lab: FaultLab;
    let witness: { readonly runId: string; readonly logs: string };
    const back: number[] = [];
    let checked = 0;

    beforeAll(async () => {
      lab = await FaultLab.start();
      await lab.startLink(provider);
      const reader = lab.read(await lab.dispatch(provider, counting(20, 20, 0)));
      await lab.expectWhole(reader, 20);
      const runId = reader.events[0]?.runId ?? "";
      witness = { runId, logs: await lab.logs(runId) };
    }, 90_000);
    afterAll(() => lab?.[Symbol.asyncDispose](), 60_000);

    const cutOnce = async (rule: Rule): Promise<void> => {
      const hit = lab.wire.arm(rule);
      const next = lab.wire.nextTunnel();
      await hit;
      const cutAt = performance.now();
      await next;
      back.push(performance.now() - cutAt);
    };
    const whole = async (reader: RunReader, lines = LINES) => {
      await lab.expectWhole(reader, lines);
      checked += reader.events.length;
    };

    // The line knows nothing of providers: in the short form Docker gets what differs the most.
    const isBrief = provider === "docker" && !isSoak;
    // What the short form leaves to the other provider is not missing: it is no skipped test.
    const inLongForm = (name: string, body: () => Promise<void>, limitMs: number): void => {
      if (!isBrief) test(name, body, limitMs);
    };
    const cuts = Object.entries(CUTS).filter(([where]) => !isBrief || where.includes("line"));
    for (const [where, rule] of cuts) {
      test(
        `${where}: the run is whole`,
        async () => {
          for (let repeat = 0; repeat < repeats; repeat += 1) {
            const reader = lab.read(await lab.dispatch(provider, counting(LINES, 5, 0.02)));
            await reader.until(() => reader.lines >= 5);
            await cutOnce(rule());
            await whole(reader);
          }
        },
        LIMIT_MS,
      );
    }

    inLongForm(
      "in the handshake, at any byte of request and answer: dialled again until it stands",
      async () => {
        let brokenHandshakes = 0;
        const reader = lab.read(await lab.dispatch(provider, counting(LINES, 5, 0.02)));
        await reader.until(() => reader.lines >= 5);
        for (const direction of ["up", "down"] as const) {
          for (let repeat = 0; repeat < 2 * repeats; repeat += 1) {
            const broken = lab.wire.arm((passing) =>
              passing.kind === "head" && passing.direction === direction
                ? { pass: passing.bytes.subarray(0, between(chance, 0, passing.bytes.length)) }
                : undefined,
            );
            lab.wire.cut();
            await broken;
            brokenHandshakes += 1;
          }
        }
        await whole(reader);
        const promise = "handshake cut";
        const { length: events } = reader.events;
        summary({ promise, provider, faults: brokenHandshakes, events });
      },
      LIMIT_MS,
    );

    test(
      "right behind a dispatch, before its 202: it runs once",
      async () => {
        for (let repeat = 0; repeat < 2 * repeats; repeat += 1) {
          const cut = cutOnce(answerLost(/^\/v1\/runs$/));
          const reader = lab.read(await lab.dispatch(provider, counting(LINES, 50, 0.02)));
          await cut;
          await whole(reader);
          expect(reader.events.filter(({ type }) => type === "run.started")).toHaveLength(1);
        }
      },
      LIMIT_MS,
    );

    inLongForm(
      "half-open, both ways, without a word: found by heartbeats, within 30 s",
      async () => {
        const reader = lab.read(await lab.dispatch(provider, counting(LINES, 1, 0.04)));
        await reader.until(() => reader.lines >= 20);
        const armed = lab.wire.arm(() => "blackhole");
        await armed;
        const goneAt = performance.now();
        await lab.wire.nextTunnel();
        const foundMs = performance.now() - goneAt;
        const promise = "half-open line: the next tunnel stands";
        summary({ promise, provider, faults: 1, times: [foundMs] });
        expect(foundMs).toBeLessThan(30_000);
        await whole(reader);
      },
      LIMIT_MS,
    );

    test("`deco runs logs` of a run from before all of that: the same bytes", async () => {
      expect(await lab.logs(witness.runId)).toBe(witness.logs);
      const promise = "cut tunnel: the next one stands";
      summary({ promise, provider, faults: back.length, events: checked, times: back });
      expect(quantile(back, 0.95)).toBeLessThan(BACK_P95_MS);
    }, 30_000);

    inLongForm(
      "a client whose own line breaks at random bytes reads every event once",
      async () => {
        const runId = await lab.dispatch(provider, counting(LINES, 5, 0.02));
        const reader = lab.read(runId);
        await using short = await shortWire(
          () => Number(new URL(lab.url).port),
          () => between(chance, 200, 6000),
        );
        const cutting = lab.read(runId, { url: () => short.url });
        await Promise.all([reader.ended, cutting.ended]);
        expect(short.cuts()).toBeGreaterThan(3);
        expect(cutting.raw).toEqual(reader.raw);
        const promise = "a client's own line cut";
        const { length: events } = cutting.events;
        summary({ promise, provider, faults: short.cuts(), events });
      },
      LIMIT_MS,
    );

    test("nothing is left behind", async () => {
      expect(await lab.leftBehind()).toEqual([]);
    }, 60_000);
  });
}
