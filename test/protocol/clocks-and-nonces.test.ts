import { describe, expect, test } from "bun:test";
import { HubClock } from "../../src/protocol/hub-clock.ts";
import { NonceCache } from "../../src/protocol/nonces.ts";

const hub = (ms: number) => new Date(ms).toISOString();

describe("nonces", () => {
  test("are taken once", () => {
    const cache = new NonceCache({ now: () => 0 });
    expect(cache.record("a", 60_000)).toBe(true);
    expect(cache.record("a", 60_000)).toBe(false);
    expect(cache.record("b", 60_000)).toBe(true);
  });

  test("are remembered while their signature may be valid, even when the clock steps back", () => {
    let now = 0;
    const cache = new NonceCache({ now: () => now });
    cache.record("a", 60_000);
    now = 65_000;
    expect(cache.record("b", 125_000)).toBe(true);
    now = 60_000;
    expect(cache.record("a", 60_000)).toBe(false);
  });

  test("are forgotten afterwards, so that memory is bounded by the rate", () => {
    let now = 0;
    const cache = new NonceCache({ now: () => now });
    for (let i = 0; i < 10_000; i++) {
      now = i * 100;
      cache.record(`n${i}`, now + 60_000);
    }
    expect(cache.size).toBeLessThan(1000);
  });
});

describe("the hub's clock (LESSONS 9)", () => {
  test("is right however wrong the laptop's is", () => {
    let local = 0;
    const clock = new HubClock({ now: () => local });
    clock.set(hub(1_795_000_000_000));
    local += 1500;
    expect(clock.now()).toBe(1_795_000_001_500);
  });

  test("is moved by up to 5 s a heartbeat, and by no more", () => {
    const clock = new HubClock({ now: () => 1_795_000_000_000 });
    expect(clock.adjust(hub(1_795_000_005_000))).toBe("ok");
    expect(clock.now()).toBe(1_795_000_005_000);
    expect(clock.adjust(hub(1_795_000_000_000))).toBe("ok");
    expect(clock.adjust(hub(1_795_000_005_001))).toBe("jumped");
    expect(clock.adjust(hub(1_794_999_994_999))).toBe("jumped");
    expect(clock.now()).toBe(1_795_000_000_000);
  });

  test("refuses what is no time and stays as it was", () => {
    const clock = new HubClock({ now: () => 7 });
    expect(() => clock.set("soon")).toThrow("not a time");
    expect(() => clock.adjust("")).toThrow("not a time");
    expect(clock.now()).toBe(7);
  });
});
