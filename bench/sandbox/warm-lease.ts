import { setTimeout as delay } from "node:timers/promises";
import { alone, type BenchResult, quantile } from "../result.ts";
import type { Measure } from "./lab.ts";

const RUNS = 21;

/** From "make me one" to ready, where one of its spec was made ahead. */
export const warmLease: Measure = async ({ warmed, signal }) => {
  const { engine, ensure } = await warmed(1);
  const times: number[] = [];
  try {
    // The first use tells what is wanted.
    await ensure("warm-first");
    await engine.remove("warm-first", signal);
    for (let i = 0; i < RUNS; i++) {
      while ((engine.madeAhead?.().ready ?? 0) === 0) await delay(50, undefined, { signal });
      await delay(300, undefined, { signal });
      const started = performance.now();
      await ensure(`warm-${i}`);
      times.push(performance.now() - started);
      await engine.remove(`warm-${i}`, signal);
    }
    if (engine.madeAhead?.().leased !== RUNS) throw new Error("not all of them were leased");
  } finally {
    await engine.close?.(signal);
  }
  return [result("warm_lease_p50_ms", times, 0.5), result("warm_lease_p99_ms", times, 0.99)];
};

function result(metric: string, times: number[], part: number): BenchResult {
  return alone({ metric, unit: "ms", ours: quantile(times, part), runs: RUNS });
}
