import { execFileSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import type { BenchResult } from "./result.ts";

const REPORT = new URL("../docs/benchmarks.md", import.meta.url);
const HEAD = `# Benchmarks

Written by \`npm run bench -- all\` and \`npm run bench -- NAME --write\`; don't edit by hand. Ratio = ours / rival, both measured
interleaved in one run. Times on shared machines are noisy: trust the ratios.
`;

/** Puts the results of one bench into docs/benchmarks.md, in place of its earlier ones. */
export async function writeSection(o: {
  readonly name: string;
  readonly machine: string;
  /** Of the machine, over the minute before. */
  readonly load: number;
  readonly results: readonly BenchResult[];
}): Promise<void> {
  const { name, machine, load, results } = o;
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
  const day = new Date().toISOString().slice(0, 10);
  const ours = [
    `## ${name}`,
    "",
    `Machine: ${machine}, load before ${load.toFixed(1)}. Date: ${day}. Commit: ${commit}.`,
    "",
    "| metric | unit | runtime | ours | rival | rival's | ratio | runs |",
    "|---|---|---|---|---|---|---|---|",
    ...results.map(row),
    "",
  ].join("\n");
  const [, ...sections] = (await readFile(REPORT, "utf8")).split(/^(?=## )/m);
  const at = sections.findIndex((section) => section.startsWith(`## ${name}\n`));
  if (at < 0) sections.push(ours);
  else sections[at] = ours;
  const all = [HEAD, ...sections].map((section) => section.trimEnd());
  await writeFile(REPORT, `${all.join("\n\n")}\n`);
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
