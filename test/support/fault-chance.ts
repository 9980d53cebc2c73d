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

/** `p50 12 ms, p95 34 ms, max 40 ms of 20` */
export function percentiles(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number) =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0);
  return `p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, max ${Math.round(sorted.at(-1) ?? 0)} ms of ${sorted.length}`;
}

/** For docs/reliability.md: what a suite measured. */
export function report(line: string): void {
  process.stderr.write(`[measured] ${line}\n`);
}
