import { alone, quantile } from "../result.ts";
import type { Measure, SandboxLab } from "./lab.ts";

const CYCLES = 200;
/** The first ones fill the runtime's heap by some 10 MiB; a leak would go on behind them. */
const WARM_UP = 200;
const AT_ONCE = 4;
/**
 * The allocator gives pages back when it likes: with a heap that stays the same to 0.3 MiB one look at
 * the RSS is 4 MiB off, up or down. So each side is the median of the looks during its last cycles.
 */
const LOOKS = 5;
const CYCLES_PER_LOOK = 10;

/** 200 sandboxes made and removed: what of them stays in the engine, on disk and in this process. */
export const cycles: Measure = async (lab) => {
  const { engine, objects, signal } = lab;
  const before = await rssAfter(lab, WARM_UP);
  const grown = (await rssAfter(lab, CYCLES)) - before;
  await engine.close?.(signal);
  const left = await objects();
  if (left.length > 0) console.error("left behind:", left.join(", "));
  const runs = CYCLES;
  return [
    alone({ metric: "cycles_200_leftovers", unit: "objects", ours: left.length, runs }),
    alone({ metric: "cycles_200_rss_growth_mib", unit: "MiB", ours: grown, runs }),
  ];
};

/** MiB, when so many have been made and removed. */
async function rssAfter(lab: SandboxLab, count: number): Promise<number> {
  await cycle(lab, count - LOOKS * CYCLES_PER_LOOK);
  const looks: number[] = [];
  while (looks.length < LOOKS) {
    await cycle(lab, CYCLES_PER_LOOK);
    looks.push(settledRssMib());
  }
  console.error("rss MiB:", looks.map((mib) => mib.toFixed(1)).join(" "));
  return quantile(looks, 0.5);
}

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
