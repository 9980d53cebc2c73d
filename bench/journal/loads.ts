import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { BatchWriter } from "../../src/daemon/executor/batch-writer.ts";
import { eventOf, runsOf } from "./events.ts";
import { SINKS, type Sink, type SinkName } from "./sinks.ts";

export interface Load {
  readonly runs: number;
  readonly events: number;
}

/** Events per second when every run says as much as is taken, through the daemon's own batching. */
export async function burst(name: SinkName, { runs, events }: Load): Promise<number> {
  return await withSink(name, runs, async (sink, runIds) => {
    const each = Math.ceil(events / runs);
    const startedAt = performance.now();
    await Promise.all(
      runIds.map(async (runId) => {
        let failure: unknown;
        const writer = new BatchWriter(
          (drafts) => sink.write(runId, drafts),
          (error) => (failure = error),
        );
        for (let n = 0; n < each; n++) await writer.push(eventOf(n));
        await writer.flush();
        if (failure !== undefined) throw new Error("a write failed", { cause: failure });
      }),
    );
    return (each * runs * 1000) / (performance.now() - startedAt);
  });
}

/** Each run says its next event when the last one is on disk. */
export async function stepwise(
  name: SinkName,
  { runs, events }: Load,
): Promise<{ readonly rate: number; readonly latenciesMs: number[] }> {
  return await withSink(name, runs, async (sink, runIds) => {
    const each = Math.ceil(events / runs);
    const latenciesMs: number[] = [];
    const startedAt = performance.now();
    await Promise.all(
      runIds.map(async (runId) => {
        for (let n = 0; n < each; n++) {
          await setImmediate();
          const saidAt = performance.now();
          await sink.write(runId, [eventOf(n)]);
          latenciesMs.push(performance.now() - saidAt);
        }
      }),
    );
    const rate = (each * runs * 1000) / (performance.now() - startedAt);
    return { rate, latenciesMs };
  });
}

async function withSink<T>(
  name: SinkName,
  runs: number,
  work: (sink: Sink, runIds: readonly string[]) => Promise<T>,
): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), "deco-bench-"));
  const runIds = runsOf(runs);
  const sink = await SINKS[name](dir, runIds);
  try {
    return await work(sink, runIds);
  } finally {
    await sink.close();
    await rm(dir, { recursive: true, force: true });
  }
}
