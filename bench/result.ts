/** One line of a bench: a metric, by runtime, against one rival or none. */
export interface BenchResult {
  readonly metric: string;
  readonly unit: string;
  readonly runtime: "bun" | "node";
  readonly ours: number;
  readonly rival: number | null;
  readonly rivalName: string | null;
  /** ours / rival; null where there is no rival. */
  readonly ratio: number | null;
  /** How many times it was measured. */
  readonly runs: number;
}

/** Value at quantile `q` (0..1) of the samples, by nearest rank. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const index = Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1));
  return sorted[index] ?? Number.NaN;
}

/** A result without a rival. */
export function alone(o: {
  metric: string;
  unit: string;
  ours: number;
  runs: number;
}): BenchResult {
  return { ...o, runtime: runtimeName(), rival: null, rivalName: null, ratio: null };
}

/** A result against a rival measured in the same run. */
export function against(o: {
  metric: string;
  unit: string;
  ours: number;
  rival: number;
  rivalName: string;
  runs: number;
}): BenchResult {
  return { ...o, runtime: runtimeName(), ratio: o.ours / o.rival };
}

function runtimeName(): "bun" | "node" {
  return process.versions["bun"] === undefined ? "node" : "bun";
}
