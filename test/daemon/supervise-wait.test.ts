import { expect, test } from "bun:test";
import { Alarm } from "../../src/daemon/supervise-alarm.ts";
import { watchWake } from "../../src/daemon/supervise-wake.ts";
import { deferred } from "../../src/protocol/deferred.ts";

const never = new AbortController().signal;

test("a wait ends by itself, by a ring, or by its signal, and never throws", async () => {
  const alarm = new Alarm();
  expect(await alarm.wait(1, never)).toBe("elapsed");
  const rung = alarm.wait(Number.POSITIVE_INFINITY, never);
  const stop = new AbortController();
  const aborted = new Alarm().wait(60_000, stop.signal);
  alarm.ring();
  stop.abort();
  expect(await rung).toBe("rung");
  expect(await aborted).toBe("aborted");
  expect(await alarm.wait(60_000, AbortSignal.abort())).toBe("aborted");
});

test("a ring during the work before a wait is not missed", async () => {
  const alarm = new Alarm();
  const before = alarm.rings;
  alarm.ring();
  expect(await alarm.wait(60_000, never, before)).toBe("rung");
});

test("a wake is seen when the wall clock has run ahead of the monotonic one, and only then", async () => {
  let wall = 0;
  let monotonic = 0;
  const slept = deferred<number>();
  let ticks = 0;
  const watch = watchWake({
    everyMs: 1,
    now: () => wall,
    monotonic: () => {
      ticks += 1;
      monotonic += 2000;
      wall += 2000;
      if (ticks === 4) wall -= 60_000;
      if (ticks === 8) wall += 600_000;
      return monotonic;
    },
    onWake: slept.resolve,
  });
  expect(await slept.promise).toBe(600_000);
  watch[Symbol.dispose]();
});
