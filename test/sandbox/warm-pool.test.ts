import { describe, expect, test } from "bun:test";
import { deferred } from "../../src/protocol/deferred.ts";
import { type Spare, WarmPool } from "../../src/sandbox/drivers/docker/warm/warm-pool.ts";
import { wantedSandbox } from "../../src/sandbox/sandbox-spec.ts";
import { quietLog } from "../suites/sandbox-provider-suite.ts";

const signal = AbortSignal.timeout(20_000);
const MINUTE = 60_000;
const wanted = wantedSandbox({}, "docker", { egress: "open" });
const order = (key: string) => ({ key, wanted, harness: undefined });

/** A pool over an engine of numbers; its clock is the test's. */
function lab(o: { size?: number; memoryMib?: number; each?: number } = {}) {
  const engine = {
    all: new Map<string, string>(),
    made: 0,
    broken: false,
    each: o.each ?? 10,
    busy: Promise.resolve(),
    givenUp: false,
    gone: false,
    /** Not to be removed at the first time. */
    stuck: "",
  };
  const clock = { now: 1_000_000, idle: true };
  const pool = new WarmPool({
    size: o.size ?? 4,
    memoryMib: o.memoryMib ?? 128,
    log: quietLog,
    now: () => clock.now,
    idle: () => clock.idle,
    maker: {
      make: async ({ key }, within) => {
        if (engine.broken) throw new Error("no room");
        engine.made += 1;
        await engine.busy;
        engine.givenUp = within.aborted;
        const handle = `w-${engine.made}`;
        engine.all.set(handle, key);
        return { handle, id: handle, startedAt: "", memoryMib: engine.each };
      },
      memoryMib: () => Promise.resolve(engine.each),
      discard: async ({ handle }) => {
        if (handle === engine.stuck) {
          engine.stuck = "";
          throw new Error("not now");
        }
        await Promise.resolve();
        engine.all.delete(handle);
      },
      list: async () => {
        if (engine.gone) throw new Error("no engine");
        return [...engine.all.keys()].map((handle) => ({ handle, id: handle }));
      },
    },
  });
  const settle = async () => {
    await pool.tend(signal);
    pool.refill();
    await pool.tend(signal);
  };
  const keys = () => [...engine.all.values()].toSorted();
  const take = (key: string) => pool.lease(key, (spare: Spare) => Promise.resolve(spare), signal);
  return { pool, engine, clock, settle, keys, take };
}

describe("the warm pool", () => {
  test("keeps one of a spec in use, two when it is used again within 5 minutes", async () => {
    const { pool, clock, settle, keys } = lab();
    await settle();
    expect(keys()).toEqual([]);
    pool.use(order("a"));
    await settle();
    expect(keys()).toEqual(["a"]);
    clock.now += 6 * MINUTE;
    pool.use(order("a"));
    await settle();
    expect(keys()).toEqual(["a"]);
    clock.now += MINUTE;
    pool.use(order("a"));
    await settle();
    expect(keys()).toEqual(["a", "a"]);
  });

  test("never more than its size: the specs used last are those that have one", async () => {
    const { pool, clock, settle, keys } = lab({ size: 2 });
    for (const key of ["a", "b", "c"]) {
      pool.use(order(key));
      clock.now += 1000;
      await settle();
    }
    expect(keys()).toEqual(["b", "c"]);
  });

  test("what is half an hour old is not leased, and goes; so does what nobody uses any more", async () => {
    const { pool, engine, clock, settle, keys, take } = lab();
    pool.use(order("a"));
    await settle();
    clock.now += 29 * MINUTE;
    pool.use(order("a"));
    clock.now += MINUTE;
    expect(await take("a")).toBeUndefined();
    await settle();
    expect(keys()).toEqual(["a"]);
    expect(engine.made).toBe(2);
    clock.now += 30 * MINUTE;
    await settle();
    expect(keys()).toEqual([]);
  });

  test("each is handed out once, under a name of its own", async () => {
    const { pool, settle, take } = lab();
    pool.use(order("a"));
    pool.use(order("a"));
    await settle();
    const taken = await Promise.all([take("a"), take("a"), take("a")]);
    expect(taken.map((one) => one?.handle)).toEqual(["w-1", "w-2", undefined]);
    expect(pool.counts()).toMatchObject({ ready: 0, leased: 2 });
  });

  test("one of no use is discarded, and the next one tried", async () => {
    const { pool, settle, keys } = lab();
    pool.use(order("a"));
    pool.use(order("a"));
    await settle();
    const tried: string[] = [];
    const attempt = (spare: Spare) => {
      tried.push(spare.handle);
      return spare.handle === "w-1" ? Promise.reject(new Error("dead")) : Promise.resolve("good");
    };
    expect(await pool.lease("a", attempt, signal)).toBe("good");
    expect(tried).toEqual(["w-1", "w-2"]);
    expect(keys()).toHaveLength(1);
  });

  test("the limit of memory is hard, when one is made and when one grows", async () => {
    const { pool, engine, settle, keys } = lab({ memoryMib: 25, each: 15 });
    pool.use(order("a"));
    pool.use(order("a"));
    await settle();
    expect(keys()).toEqual(["a"]);
    expect(pool.counts()).toMatchObject({ ready: 1, memoryMib: 15 });
    expect(pool.counts().reason).toBe("it would use 30 of 25 MiB");
    engine.each = 26;
    await pool.tend(signal);
    expect(keys()).toEqual([]);
  });

  test("failures are told, and tried again ever later", async () => {
    const { pool, engine, clock, settle, keys } = lab();
    engine.broken = true;
    pool.use(order("a"));
    const waits: number[] = [];
    for (let i = 0; i < 9; i++) {
      await settle();
      const { retryAt = "", reason } = pool.counts();
      expect(reason).toBe("no room");
      waits.push((Date.parse(retryAt) - clock.now) / 1000);
      clock.now = Date.parse(retryAt);
      pool.use(order("a"));
    }
    expect(waits).toEqual([5, 10, 20, 40, 80, 160, 320, 600, 600]);
    engine.broken = false;
    clock.now += 1;
    await settle();
    expect(keys()).toEqual(["a"]);
    expect(pool.counts().retryAt).toBeUndefined();
  });

  test("a spec that can't be made keeps no other from its place", async () => {
    const { pool, engine, clock, settle, keys } = lab({ size: 1 });
    engine.broken = true;
    pool.use(order("bad"));
    await settle();
    engine.broken = false;
    pool.use(order("good"));
    clock.now += 1;
    pool.use(order("bad"));
    await settle();
    expect(keys()).toEqual(["good"]);
    expect(pool.counts()).toMatchObject({ ready: 1, reason: "no room" });
    clock.now += 5_000;
    await settle();
    expect(keys()).toEqual(["good"]);
    expect(pool.counts().reason).toBeUndefined();
    expect(engine.made).toBe(1);
  });

  test("what others removed is no longer counted, and made again", async () => {
    const { pool, engine, settle, keys } = lab();
    pool.use(order("a"));
    await settle();
    engine.all.clear();
    await pool.tend(signal);
    expect(pool.counts()).toMatchObject({ ready: 0, memoryMib: 0 });
    await settle();
    expect(keys()).toEqual(["a"]);
  });

  test("one that can't be removed keeps a close from nothing else, and is tried once more", async () => {
    const { pool, engine, settle, keys } = lab();
    pool.use(order("a"));
    pool.use(order("b"));
    await settle();
    engine.stuck = "w-1";
    await pool.close(signal);
    expect(keys()).toEqual([]);
  });

  test("nothing is made while a sandbox is being started, nor after the close", async () => {
    const { pool, clock, settle, keys } = lab();
    clock.idle = false;
    pool.use(order("a"));
    await settle();
    expect(keys()).toEqual([]);
    clock.idle = true;
    await settle();
    expect(keys()).toEqual(["a"]);
    await pool.close(signal);
    expect(keys()).toEqual([]);
    await settle();
    expect(keys()).toEqual([]);
  });

  test("the end waits for what is being made, and takes it and what others left along", async () => {
    const { pool, engine, settle, keys } = lab();
    const { promise, resolve } = deferred();
    engine.busy = promise;
    pool.use(order("a"));
    pool.use(order("a"));
    pool.refill();
    while (engine.made === 0) await Bun.sleep(1);
    const closed = pool.close(signal);
    engine.all.set("w-old", "a");
    resolve();
    await closed;
    expect(engine).toMatchObject({ made: 1, givenUp: false });
    expect(keys()).toEqual([]);
    await settle();
    expect(engine.made).toBe(1);
  });

  test("an engine that is gone does not fail the end", async () => {
    const { pool, engine } = lab();
    engine.gone = true;
    await pool.close(signal);
    expect(pool.counts().ready).toBe(0);
  });

  test("size 0 makes none, and still reaps those of daemons that died", async () => {
    const { pool, engine, settle, keys } = lab({ size: 0 });
    engine.all.set("w-old", "a");
    pool.use(order("a"));
    await settle();
    expect(keys()).toEqual([]);
    expect(engine.made).toBe(0);
  });
});
