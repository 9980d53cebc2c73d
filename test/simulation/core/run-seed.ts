import type { Fault } from "../nodes/weather.ts";
import { checkRuns, isSettled } from "./check.ts";
import type { Mutation } from "./mutations.ts";
import { type Fixture, Simulation } from "./simulation.ts";
import { beTroubled } from "./troubles.ts";
import { beUser, endForgotten } from "./user.ts";

export interface SeedResult {
  readonly seed: number;
  readonly violations: readonly string[];
  readonly events: number;
  readonly runs: number;
  readonly steps: number;
  /** How long it took in the simulated world, in ms. */
  readonly simulatedMs: number;
  /** Fingerprint of everything that happened. */
  readonly print: number;
  readonly faults: Partial<Record<Fault, number>>;
}

export interface SeedOptions {
  readonly eventsPerSeed: number;
  readonly mutation?: Mutation | undefined;
  readonly trace?: ((line: string) => void) | undefined;
}

/** After the weather has cleared, everything has to be settled in this time. */
const SETTLES_IN_MS = 10 * 60_000;
const MAX_STEPS = 60_000;

export async function runSeed(
  seed: number,
  fixture: Fixture,
  { eventsPerSeed, mutation, trace }: SeedOptions,
): Promise<SeedResult> {
  const sim = new Simulation(seed, fixture, {
    eventsPerSeed,
    mutation,
    ...(trace === undefined ? {} : { trace }),
  });
  const { world } = sim;
  const onRejection = (error: unknown) => {
    if (world.current.alive) sim.violate(`nobody handled ${String(error)}`);
  };
  process.on("unhandledRejection", onRejection);
  try {
    sim.startHub();
    const [laptop] = sim.laptops;
    if (laptop !== undefined) sim.startDaemon(laptop);
    const wishes = beUser(sim);
    beTroubled(sim);
    world.schedule(world.outside, sim.scenario.clearsAtMs, () => {
      endForgotten(sim);
    });
    let settled = false;
    for (let until = world.beganAt + sim.scenario.clearsAtMs; !settled; ) {
      settled = await world.run(() => isSettled(sim, wishes), until, MAX_STEPS);
      const limit = Math.max(sim.awakeAt, world.beganAt + sim.scenario.clearsAtMs) + SETTLES_IN_MS;
      if (until >= limit || world.steps >= MAX_STEPS) break;
      until = Math.min(limit, until + 60_000);
    }
    if (!settled) {
      for (const table of [sim.fixture.hubDisk, ...sim.laptops.map(({ disk }) => disk)]) {
        for (const row of table.rows("runs")) {
          const { run_id: runId, status, last_seq: last, link_seq: link, acked_seq: acked } = row;
          world.trace(`left: ${JSON.stringify({ runId, status, last, link, acked })}`);
        }
      }
      sim.violate(
        `not settled after ${Math.round(world.now - world.beganAt)} ms, ${world.steps} steps`,
      );
    }
    const events = checkRuns(sim, wishes);
    return {
      seed,
      violations: sim.violations,
      events,
      runs: wishes.length,
      steps: world.steps,
      simulatedMs: world.now - world.beganAt,
      print: world.print,
      faults: sim.weather.counts,
    };
  } finally {
    process.removeListener("unhandledRejection", onRejection);
    sim.end();
  }
}
