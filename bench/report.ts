import { execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import type { BenchResult } from "./result.ts";

/** Rewrites docs/benchmarks.md from the results of one `npm run bench -- all`. */
export async function writeReport(
  machine: string,
  results: Readonly<Record<string, readonly BenchResult[]>>,
): Promise<void> {
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
  const day = new Date().toISOString().slice(0, 10);
  const head = [
    "# Benchmarks",
    "",
    "Written by `npm run bench -- all`; don't edit by hand. Ratio = ours / rival, both measured interleaved in one run.",
    "Times on shared machines are noisy: trust the ratios.",
    "",
    `Machine: ${machine}. Date: ${day}. Commit: ${commit}.`,
  ];
  const sections = Object.entries(results).flatMap(([bench, rows]) => section(bench, rows));
  await writeFile(
    new URL("../docs/benchmarks.md", import.meta.url),
    [...head, ...sections, ""].join("\n"),
  );
}

function section(bench: string, rows: readonly BenchResult[]): string[] {
  return [
    "",
    `## ${bench}`,
    "",
    "| metric | unit | runtime | ours | rival | rival's | ratio | runs |",
    "|---|---|---|---|---|---|---|---|",
    ...rows.map(row),
  ];
}

function row({ metric, unit, runtime, ours, rival, rivalName, ratio, runs }: BenchResult): string {
  const cells = [
    `\`${metric}\``,
    unit,
    runtime,
    short(ours),
    rivalName ?? "–",
    short(rival),
    short(ratio),
    runs,
  ];
  return `| ${cells.join(" | ")} |`;
}

function short(value: number | null): string {
  return value === null ? "–" : String(Number(value.toPrecision(3)));
}
