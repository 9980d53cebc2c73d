import { cpus, totalmem } from "node:os";
import type { BenchResult } from "./result.ts";
import { runProgram } from "./run-program.ts";

/**
 * `npm run bench -- NAME [--json]`: one bench, or `all` (which rewrites docs/benchmarks.md).
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
};

const machine = `${process.platform}/${process.arch}, ${cpus().length} cores (${cpus()[0]?.model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB`;

async function main(argv: readonly string[]): Promise<number> {
  const name = argv.find((argument) => !argument.startsWith("-"));
  const json = argv.includes("--json");
  if (name === "all") {
    const { writeReport } = await import("./report.ts");
    const results: Record<string, BenchResult[]> = {};
    for (const [key, bench] of Object.entries(BENCHES)) results[key] = await bench();
    await writeReport(machine, results);
    return 0;
  }
  const bench = name === undefined ? undefined : BENCHES[name];
  if (name === undefined || bench === undefined) {
    console.error(`usage: npm run bench -- ${Object.keys(BENCHES).join("|")}|all [--json]`);
    return 2;
  }
  const results = await bench();
  if (json) console.log(JSON.stringify({ bench: name, machine, results }));
  else for (const result of results) console.log(formatResult(result));
  return 0;
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
