import { availableParallelism } from "node:os";
import { join } from "node:path";
import { FAULTS } from "../nodes/weather.ts";
import { noSeeds, type Summary } from "./summary.ts";

const MAIN = join(import.meta.dir, "../main.ts");
/** Long enough to be worth a program's start, short enough that every core has work to the end. */
const SEEDS_A_WORKER = 1000;
const START_MS = 30_000;
const MS_A_SEED = 250;

/** Seeds `from` to `from + seeds - 1`. */
export interface SeedRange {
  readonly from: number;
  readonly seeds: number;
}

export interface WorkersOptions extends SeedRange {
  readonly eventsPerSeed: number;
  readonly keepGoing?: boolean;
  /** Programs at a time; default: one a core. */
  readonly workers?: number;
  /** Hears what a worker says of failing seeds, their replay included, and of its own end. */
  readonly onTrouble: (text: string) => void;
  /** The program that plays a range and prints its summary as its last line; for tests. */
  readonly command?: (range: SeedRange) => readonly string[];
  /** After which a worker is killed as hung; default: 30 s and 0.25 s a seed. */
  readonly limitMs?: number;
}

export type WorkersSummary = Summary & { readonly maxRssMib: number; readonly cpuSeconds: number };

/**
 * Plays seeds in programs of their own, one a core. Without `keepGoing` no further range begins
 * behind a failure. A worker that dies, hangs or plays less than its range counts as a failure.
 */
export async function runInWorkers(options: WorkersOptions): Promise<WorkersSummary> {
  const ranges = rangesOf(options);
  const began = performance.now();
  const told: WorkersSummary[] = [];
  let next = 0;
  const work = async () => {
    for (let at = next++; at < ranges.length; at = next++) {
      const range = ranges[at];
      if (range === undefined) return;
      const summary = await runRange(range, options);
      told[at] = summary;
      if (summary.failed > 0 && options.keepGoing !== true) next = ranges.length;
    }
  };
  const { workers = availableParallelism() } = options;
  await Promise.all(Array.from({ length: workers }, work));
  const seconds = (performance.now() - began) / 1000;
  return { ...Object.values(told).reduce(both, NOTHING), seconds };
}

function rangesOf({ from, seeds }: SeedRange): SeedRange[] {
  const ranges: SeedRange[] = [];
  for (let done = 0; done < seeds; done += SEEDS_A_WORKER) {
    ranges.push({ from: from + done, seeds: Math.min(SEEDS_A_WORKER, seeds - done) });
  }
  return ranges;
}

async function runRange(range: SeedRange, options: WorkersOptions): Promise<WorkersSummary> {
  const { onTrouble, limitMs = START_MS + range.seeds * MS_A_SEED } = options;
  const argv = options.command?.(range) ?? commandOf(range, options);
  const child = Bun.spawn([...argv], {
    stdout: "pipe",
    stderr: "pipe",
    timeout: limitMs,
    killSignal: "SIGKILL",
    env: process.env,
  });
  const [exitCode, out, err] = await Promise.all([
    child.exited,
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  // In front of the summary stand the last steps of a seed that failed.
  if (err !== "") onTrouble([...out.split("\n").slice(0, -2), err].join("\n"));
  const summary = summaryIn(out);
  const whole = summary?.seeds === range.seeds && exitCode === 0;
  const toldWhy = exitCode === 1 && summary !== undefined && summary.failed > 0;
  if (!whole && !toldWhy) {
    const how = child.signalCode ?? `code ${exitCode}`;
    const last = range.from + range.seeds - 1;
    onTrouble(
      `seeds ${range.from} to ${last}: their worker ended with ${how} after ${summary?.seeds ?? "an unknown number"} of them (killed after ${limitMs / 1000} s)\n` +
        `play them: bun test/simulation/main.ts --from ${range.from} --seeds ${range.seeds} --events ${options.eventsPerSeed}\n`,
    );
  }
  const usage = child.resourceUsage();
  const failed = whole || toldWhy ? (summary?.failed ?? 1) : 1;
  const maxRssMib = (usage?.maxRSS ?? 0) / 2 ** 20;
  const cpuSeconds = Number(usage?.cpuTime.total ?? 0) / 1e6;
  return { ...NOTHING, ...summary, failed, maxRssMib, cpuSeconds };
}

function commandOf(
  { from, seeds }: SeedRange,
  { eventsPerSeed, keepGoing }: WorkersOptions,
): string[] {
  const range = ["--from", String(from), "--seeds", String(seeds)];
  const rest = ["--events", String(eventsPerSeed), "--json", "--workers", "1"];
  return [process.execPath, MAIN, ...range, ...rest, ...(keepGoing ? ["--keep-going"] : [])];
}

function summaryIn(out: string): Summary | undefined {
  try {
    const summary: Summary = JSON.parse(out.trim().split("\n").at(-1) ?? "");
    return summary;
  } catch {
    return undefined;
  }
}

const NOTHING: WorkersSummary = { ...noSeeds(), maxRssMib: 0, cpuSeconds: 0 };

function both(a: WorkersSummary, b: WorkersSummary): WorkersSummary {
  const faults = { ...a.faults };
  for (const name of FAULTS) {
    const n = (a.faults[name] ?? 0) + (b.faults[name] ?? 0);
    if (n > 0) faults[name] = n;
  }
  return {
    seeds: a.seeds + b.seeds,
    failed: a.failed + b.failed,
    runs: a.runs + b.runs,
    events: a.events + b.events,
    steps: a.steps + b.steps,
    simulatedHours: a.simulatedHours + b.simulatedHours,
    seconds: a.seconds + b.seconds,
    print: Math.imul(a.print ^ b.print, 0x01000193) >>> 0,
    faults,
    maxRssMib: Math.max(a.maxRssMib, b.maxRssMib),
    cpuSeconds: a.cpuSeconds + b.cpuSeconds,
  };
}
