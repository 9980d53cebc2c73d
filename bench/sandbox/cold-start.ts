import { against, alone, type BenchResult, quantile } from "../result.ts";
import { dockerRemove, dockerRun } from "./docker-run.ts";
import type { Measure, SandboxLab } from "./lab.ts";

const RUNS = 11;

/** From "make me one" to ready: ours with and without a network, and `docker run`, by turns. */
export const coldStart: Measure = async (lab) => {
  const [open, none, rival]: number[][] = [[], [], []];
  for (let i = 0; i < RUNS; i++) {
    open?.push(await ours(lab, `cold-${i}`, {}));
    rival?.push(await theirs(lab));
    none?.push(await ours(lab, `dark-${i}`, { egress: "none" }));
  }
  return [
    result("cold_start_p50_ms", open, rival),
    result("cold_start_no_egress_p50_ms", none, rival),
  ];
};

/** The same for a confined process, which has no rival. */
export const processStart: Measure = async ({ confined, ensure, signal }) => {
  if (!(await confined.probe(signal)).confined) {
    console.error("SKIPPED process: nothing here can confine");
    return [];
  }
  const times: number[] = [];
  for (let i = 0; i <= RUNS; i++) {
    const started = performance.now();
    await ensure(confined, "bench-process", {});
    // The first builds harnessd's program.
    if (i > 0) times.push(performance.now() - started);
    await confined.remove("bench-process", signal);
  }
  const p50 = { metric: "process_cold_start_p50_ms", unit: "ms", ours: quantile(times, 0.5) };
  return [alone({ ...p50, runs: RUNS })];
};

async function ours(lab: SandboxLab, handle: string, spec: { egress?: "none" }): Promise<number> {
  await lab.settle();
  const started = performance.now();
  await lab.ensure(lab.engine, handle, spec);
  const ms = performance.now() - started;
  await lab.engine.remove(handle, lab.signal);
  return ms;
}

async function theirs({ settle, image, signal }: SandboxLab): Promise<number> {
  await settle();
  const started = performance.now();
  const id = await dockerRun(image, signal);
  const ms = performance.now() - started;
  await dockerRemove([id], signal);
  return ms;
}

function result(metric: string, mine: number[] = [], rival: number[] = []): BenchResult {
  const p50 = { ours: quantile(mine, 0.5), rival: quantile(rival, 0.5) };
  return against({ metric, unit: "ms", ...p50, rivalName: "docker run", runs: RUNS });
}
