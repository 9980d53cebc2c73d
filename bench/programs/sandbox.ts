import { parseArgs } from "node:util";
import type { BenchResult } from "../result.ts";
import { coldStart, processStart } from "../sandbox/cold-start.ts";
import { copyIn } from "../sandbox/copy-in.ts";
import { crowd } from "../sandbox/crowd.ts";
import { cycles } from "../sandbox/cycles.ts";
import { idleMemory } from "../sandbox/idle.ts";
import { type Measure, sandboxLab } from "../sandbox/lab.ts";
import { warmLease } from "../sandbox/warm-lease.ts";

const LIMIT_MS = 14 * 60_000;

/** In this order; `cycles` is the last of those that need the engine, as it closes the provider. */
const WITH_ENGINE: Readonly<Record<string, Measure>> = {
  coldStart,
  warmLease,
  crowd,
  copyIn,
  idleMemory,
  cycles,
};

/** All, or those that are named: `bun bench/programs/sandbox.ts coldStart`. */
async function measure(names: readonly string[]): Promise<BenchResult[]> {
  await using lab = await sandboxLab(LIMIT_MS);
  if (lab.image === "") console.error("SKIPPED docker: no engine answers, run `npm run engines`");
  const measures = { ...(lab.image === "" ? {} : WITH_ENGINE), processStart };
  const results: BenchResult[] = [];
  for (const [name, one] of Object.entries(measures)) {
    if (names.length > 0 && !names.includes(name)) continue;
    const found = await one(lab);
    for (const { metric, ours, ratio } of found) console.error(metric, ours, ratio ?? "");
    results.push(...found);
  }
  return results;
}

const { positionals } = parseArgs({ allowPositionals: true });
console.log(JSON.stringify(await measure(positionals)));
