import { cpus, loadavg, totalmem } from "node:os";
import { writeSection } from "./report.ts";
import type { BenchResult } from "./result.ts";
import { runProgram } from "./run-program.ts";

/**
 * `npm run bench -- NAME [--json] [--write]`: one bench, or `all`. `--write` puts its section into
 * docs/benchmarks.md, which `all` does for each of its own.
 * Ratios are ours / rival, both measured interleaved in this one run.
 */
const BENCHES: Readonly<Record<string, () => Promise<BenchResult[]>>> = {
  tunnel: async () => [
    ...(await runProgram("tunnel", "bun")),
    ...(await runProgram("tunnel", "node")),
  ],
  sandbox: () => runProgram("sandbox", "bun"),
  hub: () => runProgram("hub", "bun"),
  daemon: () => runProgram("daemon", "bun"),
  journal: async () => [
    ...(await runProgram("journal", "bun")),
    ...(await runProgram("journal", "node")),
  ],
};

/** Too long for `all`. */
const LONG_BENCHES: typeof BENCHES = {
  "long-run": async () => [
    ...(await runProgram("long-run", "bun", ["bun"])),
    ...(await runProgram("long-run", "bun", ["node"])),
  ],
};

const machine = `${process.platform}/${process.arch}, ${cpus().length} cores (${cpus()[0]?.model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB`;

async function main(argv: readonly string[]): Promise<number> {
  const name = argv.find((argument) => !argument.startsWith("-"));
  const json = argv.includes("--json");
  if (name === "all") {
    for (const [key, bench] of Object.entries(BENCHES)) await measureAndWrite(key, bench);
    return 0;
  }
  const known = { ...BENCHES, ...LONG_BENCHES };
  const bench = name === undefined ? undefined : known[name];
  if (name === undefined || bench === undefined) {
    console.error(`usage: npm run bench -- ${Object.keys(known).join("|")}|all [--json] [--write]`);
    return 2;
  }
  const results = argv.includes("--write") ? await measureAndWrite(name, bench) : await bench();
  if (json) console.log(JSON.stringify({ bench: name, machine, results }));
  else for (const result of results) console.log(formatResult(result));
  return 0;
}

async function measureAndWrite(
  name: string,
  bench: () => Promise<BenchResult[]>,
): Promise<BenchResult[]> {
  const load = loadavg()[0] ?? 0;
  const results = await bench();
  await writeSection({ name, machine, load, results });
  return results;
}

function formatResult({
  metric,
  unit,
  runtime,
  ours,
  rival,
  rivalName,
  ratio,
}: BenchResult): string {
  const against =
    rivalName === null ? "" : `  ${rivalName}: ${round(rival)}  ratio ${round(ratio)}`;
  return `${metric} (${runtime}): ${round(ours)} ${unit}${against}`;
}

function round(value: number | null): string {
  return value === null ? "–" : String(Number(value.toPrecision(4)));
}

process.exit(await main(process.argv.slice(2)));
