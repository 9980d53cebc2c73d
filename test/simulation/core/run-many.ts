import { FAULTS } from "../nodes/weather.ts";
import { makeFixture } from "./fixture.ts";
import type { Mutation } from "./mutations.ts";
import { realNow } from "./real-time.ts";
import { runSeed, type SeedResult } from "./run-seed.ts";
import { noSeeds, type Summary } from "./summary.ts";

export interface ManyOptions {
  readonly from: number;
  readonly seeds: number;
  readonly eventsPerSeed: number;
  readonly onFailure: (result: SeedResult) => void;
  readonly stopAtFailure: boolean;
  readonly mutation?: Mutation | undefined;
}

export async function runMany(options: ManyOptions): Promise<Summary> {
  const { from, seeds, eventsPerSeed, onFailure } = options;
  using fixture = await makeFixture();
  const began = realNow();
  const summary = noSeeds();
  for (let seed = from; seed < from + seeds; seed += 1) {
    const result = await runSeed(seed, fixture, { eventsPerSeed, mutation: options.mutation });
    add(summary, result);
    if (result.violations.length > 0) {
      onFailure(result);
      if (options.stopAtFailure) break;
    }
  }
  summary.seconds = (realNow() - began) / 1000;
  return summary;
}

function add(summary: Summary, result: SeedResult): void {
  summary.seeds += 1;
  summary.failed += result.violations.length > 0 ? 1 : 0;
  summary.runs += result.runs;
  summary.events += result.events;
  summary.steps += result.steps;
  summary.simulatedHours += result.simulatedMs / 3_600_000;
  summary.print = Math.imul(summary.print ^ result.print, 0x01000193) >>> 0;
  for (const fault of FAULTS) {
    const n = result.faults[fault] ?? 0;
    if (n > 0) summary.faults[fault] = (summary.faults[fault] ?? 0) + n;
  }
}
