import { alone } from "../result.ts";
import type { Measure, SandboxLab } from "./lab.ts";

const CYCLES = 200;
/** The first ones fill the runtime's heap by some 10 MiB; a leak would go on behind them. */
const WARM_UP = 200;
const AT_ONCE = 4;

/** 200 sandboxes made and removed: what of them stays in the engine, on disk and in this process. */
export const cycles: Measure = async (lab) => {
  const { engine, objects, signal } = lab;
  await cycle(lab, WARM_UP);
  const before = settledRssMib();
  await cycle(lab, CYCLES);
  const grown = settledRssMib() - before;
  await engine.close?.(signal);
  const left = await objects();
  if (left.length > 0) console.error("left behind:", left.join(", "));
  const runs = CYCLES;
  return [
    alone({ metric: "cycles_200_leftovers", unit: "objects", ours: left.length, runs }),
    alone({ metric: "cycles_200_rss_growth_mib", unit: "MiB", ours: grown, runs }),
  ];
};

/** Every second without a network, so that both kinds of places are used. */
async function cycle({ engine, ensure, signal }: SandboxLab, count: number): Promise<void> {
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < count; i = next++) {
      const handle = `cycle-${i}`;
      await ensure(engine, handle, i % 2 === 0 ? {} : { egress: "none" });
      await engine.remove(handle, signal);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

function settledRssMib(): number {
  Bun.gc(true);
  return process.memoryUsage().rss / 2 ** 20;
}
