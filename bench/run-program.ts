import { execFile } from "node:child_process";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { z } from "zod";
import type { BenchResult } from "./result.ts";

const ROOT = join(import.meta.dir, "..");
const LIMIT_MS = 15 * 60_000;
const run = promisify(execFile);

const Results = z.array(
  z.object({
    metric: z.string(),
    unit: z.string(),
    runtime: z.enum(["bun", "node"]),
    ours: z.number(),
    rival: z.number().nullable(),
    rivalName: z.string().nullable(),
    ratio: z.number().nullable(),
    runs: z.int(),
  }),
);

type RuntimeName = BenchResult["runtime"];

/** Runs a program of `bench/programs` under a runtime; its last line of output is its results. */
export async function runProgram(
  name: string,
  runtime: RuntimeName,
  args: readonly string[] = [],
): Promise<BenchResult[]> {
  await using program = await prepare(name, runtime);
  const { stdout } = await run(program.command, [program.path, ...args], {
    cwd: ROOT,
    timeout: LIMIT_MS,
    maxBuffer: 2 ** 26,
  });
  return Results.parse(JSON.parse(stdout.trim().split("\n").at(-1) ?? "[]"));
}

/** Node 20 reads no TypeScript: a bundle inside the checkout, so that node_modules resolves. */
async function prepare(name: string, runtime: RuntimeName) {
  const source = join(ROOT, "bench/programs", `${name}.ts`);
  if (runtime === "bun") {
    return { command: process.execPath, path: source, async [Symbol.asyncDispose]() {} };
  }
  const outdir = join(ROOT, ".cache", `bench-${name}-${process.pid}`);
  await mkdir(outdir, { recursive: true });
  const built = await Bun.build({
    entrypoints: [source],
    target: "node",
    packages: "external",
    naming: "main.mjs",
    outdir,
  });
  if (!built.success) throw new Error(built.logs.map((entry) => entry.message).join("\n"));
  return {
    command: "node",
    path: join(outdir, "main.mjs"),
    [Symbol.asyncDispose]: () => rm(outdir, { recursive: true, force: true }),
  };
}
