import { makeFixture } from "./fixture.ts";
import { MUTATIONS } from "./mutations.ts";
import { runMany } from "./run-many.ts";
import { runSeed, type SeedResult } from "./run-seed.ts";
import type { Summary } from "./summary.ts";

const LAST_STEPS = 60;

/** Replays one seed; tells its last steps when it fails, or all of them. */
export async function runOne(o: {
  seed: number;
  eventsPerSeed: number;
  trace: boolean;
}): Promise<number> {
  using fixture = await makeFixture();
  const lines: string[] = [];
  const result = await runSeed(o.seed, fixture, {
    eventsPerSeed: o.eventsPerSeed,
    trace: (line) => {
      if (o.trace) say(line);
      else lines.push(line);
    },
  });
  if (result.violations.length > 0) for (const line of lines.slice(-LAST_STEPS)) say(line);
  say(outcome(result));
  return result.violations.length > 0 ? 1 : 0;
}

export async function runSeeds(o: {
  from: number;
  seeds: number;
  eventsPerSeed: number;
  json: boolean;
  stopAtFailure: boolean;
}): Promise<number> {
  const failures: SeedResult[] = [];
  const summary = await runMany({ ...o, onFailure: (result) => failures.push(result) });
  for (const failure of failures) {
    process.stderr.write(`${outcome(failure)}\n`);
    if (o.stopAtFailure) await runOne({ ...o, seed: failure.seed, trace: false });
    process.stderr.write(
      `replay it: bun test/simulation/main.ts --seed ${failure.seed} --events ${o.eventsPerSeed} --trace\n`,
    );
  }
  say(o.json ? JSON.stringify(summary) : sentence(summary));
  return failures.length > 0 ? 1 : 0;
}

/** Puts in one bug after the other; tells the seed that noticed it. */
export async function runMutations(o: {
  from: number;
  seeds: number;
  eventsPerSeed: number;
  json: boolean;
}): Promise<number> {
  let missed = 0;
  for (const mutation of MUTATIONS) {
    const failures: SeedResult[] = [];
    const onFailure = (result: SeedResult) => failures.push(result);
    const { seeds } = await runMany({ ...o, mutation, onFailure, stopAtFailure: true });
    if (failures.length === 0) missed += 1;
    const { name } = mutation;
    const told = { mutation: name, seeds, caught: failures[0]?.violations[0] ?? null };
    say(o.json ? JSON.stringify(told) : `${name}: ${seeds} seeds, ${told.caught ?? "NOT CAUGHT"}`);
  }
  return missed;
}

function outcome({ seed, violations, events, simulatedMs, steps, print }: SeedResult): string {
  const how = violations.length === 0 ? "holds" : `FAILS: ${violations.join("; ")}`;
  const where = `${events} events, ${steps} steps, ${Math.round(simulatedMs / 1000)} s simulated`;
  return `seed ${seed} ${how} (${where}, print ${print.toString(16)})`;
}

function sentence(summary: Summary): string {
  const { seeds, failed, runs, events, steps, simulatedHours, seconds, print } = summary;
  const faults = Object.entries(summary.faults)
    .map(([name, n]) => `${name} ${n}`)
    .join(", ");
  return [
    `${seeds} seeds, ${failed} failed, ${runs} runs, ${events} events, ${steps} steps,`,
    `${simulatedHours.toFixed(0)} h simulated in ${seconds.toFixed(1)} s, print ${print.toString(16)};`,
    `faults: ${faults}`,
  ].join(" ");
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
