import type { Fault } from "../nodes/weather.ts";

export interface Summary {
  seeds: number;
  failed: number;
  runs: number;
  events: number;
  steps: number;
  simulatedHours: number;
  seconds: number;
  print: number;
  readonly faults: Partial<Record<Fault, number>>;
}

/** The summary of no seeds, to which others are added. */
export function noSeeds(): Summary {
  return {
    seeds: 0,
    failed: 0,
    runs: 0,
    events: 0,
    steps: 0,
    simulatedHours: 0,
    seconds: 0,
    print: 0,
    faults: {},
  };
}
