import { expect, test } from "bun:test";
import { Alarm } from "../../src/daemon/supervise-alarm.ts";
import { keepTunnel, REDIAL } from "../../src/daemon/supervise-tunnel.ts";
import { DecoError } from "../../src/protocol/errors.ts";

/** Waits are told instead of waited. */
class ToldAlarm extends Alarm {
  readonly waits: number[] = [];
  readonly #passes: (ms: number) => void;
  constructor(passes: (ms: number) => void) {
    super();
    this.#passes = passes;
  }
  override wait(ms: number, signal: AbortSignal): Promise<"elapsed" | "rung" | "aborted"> {
    if (ms === Number.POSITIVE_INFINITY) return super.wait(ms, signal);
    this.waits.push(ms);
    this.#passes(ms);
    return Promise.resolve("elapsed");
  }
}

/** Dials `times`, each a tunnel that stands for so many milliseconds, or is refused; gives the waits between. */
async function waitsOf(times: number, standsForMs: (dial: number) => number | "refused") {
  let clock = 1_000_000;
  const wake = new ToldAlarm((ms) => {
    clock += ms;
  });
  const stop = new AbortController();
  let dials = 0;
  let stands = 0;
  await keepTunnel({
    dial: async () => {
      dials += 1;
      if (dials === times) stop.abort();
      const how = standsForMs(dials);
      if (how === "refused") throw new DecoError("hub_unreachable", "refused");
      stands = how;
      const closed = Promise.resolve({ code: 1006, reason: "" });
      return { closed, [Symbol.asyncDispose]: () => Promise.resolve() };
    },
    onUp: () => {
      clock += stands;
    },
    onDown: () => undefined,
    wake,
    signal: stop.signal,
    random: () => 1,
    now: () => clock,
  });
  return wake.waits;
}

test("each loss of a tunnel that stood is followed by a dial at once, however many came before", async () => {
  expect(await waitsOf(40, () => REDIAL.soonMs)).toEqual([]);
});

test("a hub that can't be had is asked soon for half a minute, then more seldom", async () => {
  const waits = await waitsOf(50, () => "refused");
  expect(waits.slice(0, 4)).toEqual([100, 200, 400, 800]);
  const seldom = waits.findIndex((ms) => ms > REDIAL.soonMs);
  const soonForMs = waits.slice(0, seldom).reduce((sum, ms) => sum + ms, 0);
  expect(soonForMs).toBeWithin(REDIAL.soonForMs, REDIAL.soonForMs + REDIAL.soonMs + 1);
  expect(waits.at(-1)).toBe(REDIAL.maxMs);
});

test("a hub that accepts and closes at once is not dialled without a rest", async () => {
  const waits = await waitsOf(10, () => 5);
  expect(waits.slice(0, 4)).toEqual([100, 200, 400, 800]);
});

test("half a minute of trouble is counted from the loss, not from one long ago", async () => {
  const waits = await waitsOf(8, (dial) => (dial === 3 ? 3_600_000 : "refused"));
  expect(waits).toEqual([100, 100, 200, 400, 800]);
});
