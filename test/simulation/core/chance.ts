/** Seeded chance (sfc32): the same seed draws the same numbers on every machine. */
export interface Chance {
  /** In [0, 1). */
  next(): number;
  /** An integer in [from, to]. */
  int(from: number, to: number): number;
  /** A number in [from, to). */
  real(from: number, to: number): number;
  /** True with probability `p`. */
  hit(p: number): boolean;
  pick<T>(items: readonly T[]): T;
  /** A generator of its own, so that draws of one part don't shift those of another. */
  fork(): Chance;
}

export function chance(seed: number): Chance {
  let a = 0x9e3779b9 ^ seed;
  let b = 0x243f6a88 ^ Math.imul(seed, 0x85ebca6b);
  let c = 0xb7e15162 + seed;
  let d = 1;
  const next = () => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return (t >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i += 1) next();
  const self: Chance = {
    next,
    int: (from, to) => from + Math.floor(next() * (to - from + 1)),
    real: (from, to) => from + next() * (to - from),
    hit: (p) => next() < p,
    pick: (items) => {
      const item = items[Math.floor(next() * items.length)];
      if (item === undefined) throw new Error("nothing to pick from");
      return item;
    },
    fork: () => chance(Math.floor(next() * 2 ** 32)),
  };
  return self;
}
