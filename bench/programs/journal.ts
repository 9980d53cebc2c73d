import { burst, stepwise } from "../journal/loads.ts";
import { acks, openings } from "../journal/opening.ts";
import { RIVALS, SINKS, type SinkName } from "../journal/sinks.ts";
import { countSyncs } from "../journal/syncs.ts";
import { against, type BenchResult, quantile } from "../result.ts";

/** The daemon's journal against plain files and plain SQLite, on the disk of the temporary folder. */
const PASSES = 3;
const CONCURRENT = [1, 8, 64];
const BURST_EVENTS = 12_800;
const STEP_EVENTS = 3_200;
const NAMES: readonly SinkName[] = ["journal", ...RIVALS];

async function measure(): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  for (const runs of CONCURRENT) {
    const bursts = bySink(() => [] as number[]);
    const steps = bySink(() => [] as number[]);
    const latencies = bySink(() => [] as number[]);
    for (let pass = 0; pass < PASSES; pass++) {
      for (const name of NAMES) {
        bursts[name].push(await burst(name, { runs, events: BURST_EVENTS }));
        const { rate, latenciesMs } = await stepwise(name, { runs, events: STEP_EVENTS });
        steps[name].push(rate);
        latencies[name].push(...latenciesMs.map((ms) => ms * 1000));
      }
    }
    const rate = { unit: "events/s", q: 0.5, passes: PASSES };
    const time = { unit: "µs", passes: latencies.journal.length };
    results.push(
      ...versus(`burst_${runs}_runs`, bursts, rate),
      ...versus(`stepwise_${runs}_runs`, steps, rate),
      ...versus(`append_to_durable_${runs}_runs_p50`, latencies, { ...time, q: 0.5 }),
      ...versus(`append_to_durable_${runs}_runs_p99`, latencies, { ...time, q: 0.99 }),
    );
  }
  return [...results, ...(await countSyncs()), ...(await acks()), ...(await openings())];
}

function bySink<T>(make: () => T): Record<SinkName, T> {
  return {
    journal: make(),
    file_fsync_each: make(),
    file_group_commit: make(),
    sqlite_each: make(),
  };
}

function versus(
  metric: string,
  samples: Record<SinkName, readonly number[]>,
  { unit, q, passes }: { unit: string; q: number; passes: number },
): BenchResult[] {
  return RIVALS.map((rivalName) =>
    against({
      metric,
      unit,
      ours: quantile(samples.journal, q),
      rival: quantile(samples[rivalName], q),
      rivalName,
      runs: passes,
    }),
  );
}

const [kind, sink = "", load, runs, events] = process.argv.slice(2);
if (kind === "load") {
  const name = NAMES.find((each) => each === sink);
  if (!name) throw new Error(`one of ${Object.keys(SINKS).join(", ")}, not ${sink}`);
  await (load === "burst" ? burst : stepwise)(name, { runs: Number(runs), events: Number(events) });
} else {
  console.log(JSON.stringify(await measure()));
}
