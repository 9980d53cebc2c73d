import { execFile, execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { against, type BenchResult } from "../result.ts";
import type { SinkName } from "./sinks.ts";

const EVENTS = 4000;
const run = promisify(execFile);

/**
 * fsync and fdatasync per event, the calls themselves counted by strace in a process of their own,
 * less those of the same process without events.
 */
export async function countSyncs(): Promise<BenchResult[]> {
  try {
    execFileSync("strace", ["-V"], { stdio: "ignore" });
  } catch {
    console.error("SKIPPED fsyncs per event: strace is not installed (apt-get install strace)");
    return [];
  }
  const results: BenchResult[] = [];
  for (const load of ["burst", "stepwise"]) {
    for (const runs of [1, 64]) {
      results.push(
        against({
          metric: `${load}_fsyncs_per_event_${runs}_runs`,
          unit: "fsyncs",
          ours: await perEvent("journal", load, runs),
          rival: await perEvent("file_group_commit", load, runs),
          rivalName: "file_group_commit",
          runs: EVENTS,
        }),
      );
    }
  }
  return results;
}

async function perEvent(sink: SinkName, load: string, runs: number): Promise<number> {
  const [none, all] = [await syncs(sink, load, runs, 0), await syncs(sink, load, runs, EVENTS)];
  return (all - none) / EVENTS;
}

async function syncs(sink: SinkName, load: string, runs: number, events: number): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), "deco-bench-"));
  const out = join(dir, "calls");
  const program = [process.execPath, process.argv[1] ?? "", "load", sink, load];
  try {
    const options = ["-f", "--seccomp-bpf", "-qq", "-e", "trace=fsync,fdatasync", "-o", out];
    await run("strace", [...options, ...program, String(runs), String(events)]);
    // A call that another thread's interrupted has a second line, "resumed".
    const lines = (await readFile(out, "utf8")).split("\n");
    return lines.filter((line) => /\bf(data)?sync\(/.test(line)).length;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
