/** Where a fault suite takes its chance from: `FAULT_SEED=n` replays what a failure printed. */
export function seedOf(name: string): number {
  const given = process.env["FAULT_SEED"];
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
  process.stderr.write(`${name}: FAULT_SEED=${seed}\n`);
  return seed;
}

/** The long form: `npm run test:soak`. */
export const isSoak = process.env["SOAK"] === "1";

/** Numbers in [0, 1), the same ones for the same seed (mulberry32). */
export function chanceOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number from `low` up to, but not, `high`. */
export const between = (chance: () => number, low: number, high: number) =>
  low + Math.floor(chance() * (high - low));

/** `count` different whole numbers from `low` up to `high`, in order. */
export function points(chance: () => number, count: number, low: number, high: number): number[] {
  const found = new Set<number>();
  while (found.size < count) found.add(between(chance, low, high));
  return [...found].toSorted((a, b) => a - b);
}

/** The value that `part` of the values do not exceed (nearest rank); 0 of none. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? 0;
}

/** `p50 12 ms, p95 34 ms, max 40 ms of 20` */
export function percentiles(values: readonly number[]): string {
  const { p50Ms, p95Ms, maxMs, of } = timesOf(values);
  return `p50 ${p50Ms} ms, p95 ${p95Ms} ms, max ${maxMs} ms of ${of}`;
}

/** For docs/reliability.md: what a suite measured. */
export function report(line: string): void {
  process.stderr.write(`[measured] ${line}\n`);
}

/** What a suite did for one promise. */
export interface Proof {
  readonly promise: string;
  readonly provider?: string;
  readonly faults: number;
  /** Read and held against what was to come: named only where a lost or doubled one would have failed. */
  readonly events?: number;
  readonly times?: readonly number[];
  /** Whatever else is counted. */
  readonly more?: Readonly<Record<string, unknown>>;
}

/** One line of JSON on stderr behind `[summary] `; said behind the assertions, so nothing was lost or doubled. */
export function summary({ promise, provider, faults, events, times, more }: Proof): void {
  const line = {
    promise,
    ...(provider === undefined ? {} : { provider }),
    form: isSoak ? "soak" : "short",
    faults,
    ...(events === undefined ? {} : { events, lost: 0, doubled: 0 }),
    ...(times === undefined ? {} : timesOf(times)),
    ...more,
  };
  process.stderr.write(`[summary] ${JSON.stringify(line)}\n`);
}

function timesOf(values: readonly number[]) {
  const at = (part: number) => Math.round(quantile(values, part));
  return { p50Ms: at(0.5), p95Ms: at(0.95), maxMs: at(1), of: values.length };
}

/** How often each of them came. */
export function tally(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}
