import { expect, test } from "bun:test";
import { heartbeats } from "../../src/daemon/heartbeat.ts";
import { Alarm } from "../../src/daemon/supervise-alarm.ts";
import { HubClock } from "../../src/protocol/hub-clock.ts";
import type { SettledRuns } from "../../src/protocol/messages.ts";

const session = {
  linkId: "l",
  epoch: 1,
  linkSecret: "s",
  signingKey: new Uint8Array(32),
  heartbeatIntervalMs: 3_600_000,
  ttlMs: 30_000,
};

/** Beats until the hub's answers are used up, then is rung once more; gives what was asked for. */
async function told(answers: readonly (number | undefined)[], total: number) {
  const asked: (number | undefined)[] = [];
  const over = new AbortController();
  const left = [...answers];
  const settled = (after: number | undefined): SettledRuns => {
    asked.push(after);
    const from = after ?? total;
    return { journal: "j", after: from, through: Math.min(total, from + 2), total, runs: [] };
  };
  await heartbeats({
    hub: {
      heartbeat: () => {
        const mark = left.shift();
        if (left.length === 0) setTimeout(() => over.abort(), 20);
        const more = mark === undefined ? {} : { settled: mark };
        const now = new Date().toISOString();
        return Promise.resolve({ now, epoch: 1, revoked: false, cancel: [], ...more });
      },
    },
    session,
    clock: new HubClock({ now: Date.now }),
    facts: () => ({ state: "online", load: { runs: 0 }, runs: [], capabilities: [], settled }),
    onCancel: () => undefined,
    onBeat: () => undefined,
    onMissed: (error) => over.abort(error),
    news: new Alarm(),
    signal: over.signal,
  });
  return asked;
}

test("a hub that knows less than it did is told page by page, at once", async () => {
  expect(await told([1, 3, 5], 5)).toEqual([undefined, 1, 3]);
});

test("a hub that knows all, or none of this, is told at the usual pace", async () => {
  expect(await told([5], 5)).toEqual([undefined]);
  expect(await told([undefined], 5)).toEqual([undefined]);
});

test("a hub that does not move is not asked without a pause", async () => {
  expect(await told([1, 1], 5)).toEqual([undefined, 1]);
});
