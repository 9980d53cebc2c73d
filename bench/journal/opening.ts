import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Journal, openJournal } from "../../src/daemon/journal.ts";
import { CHAIN_START, nextChain } from "../../src/protocol/chain.ts";
import { openDb } from "../../src/storage/open-db.ts";
import { against, alone, type BenchResult, quantile } from "../result.ts";
import { dispatchOf, eventOf, runsOf } from "./events.ts";

const RUNS = 1000;
const OPENINGS = 9;
const ACKS = 200;
const MIB = 2 ** 20;
const LIMIT_BYTES = 512 * MIB;
const LARGE = "x".repeat(16_384);

/** How long a journal takes to open and say what is unfinished, by what is in it. */
export async function openings(): Promise<BenchResult[]> {
  return [
    await opening("open_1000_runs_acked_ms", (journal, runId) => {
      ackAll(journal, runId, 20);
    }),
    await opening("open_1000_runs_20_unacked_each_ms", (journal, runId) => {
      journal.append(runId, 1, events(20));
    }),
    await opening("open_1000_runs_512_mib_ms", (journal, runId) => {
      const draft = { type: "tool.output.delta", payload: { callId: "c", content: LARGE } };
      const count = Math.floor(LIMIT_BYTES / RUNS / (LARGE.length + 200));
      journal.append(
        runId,
        1,
        Array.from({ length: count }, () => draft),
      );
    }),
  ];
}

async function opening(
  metric: string,
  fill: (journal: Journal, runId: string) => void,
): Promise<BenchResult> {
  return await inFolder(async (dir) => {
    const path = join(dir, "journal.db");
    const journal = openJournal({ path });
    for (const runId of runsOf(RUNS)) {
      journal.createRun(dispatchOf(runId));
      fill(journal, runId);
    }
    journal.close();
    const ours: number[] = [];
    const rival: number[] = [];
    for (let n = 0; n < OPENINGS; n++) {
      ours.push(timed(() => openOurs(path)));
      rival.push(timed(() => openRaw(path)));
    }
    return against({
      metric,
      unit: "ms",
      ours: quantile(ours, 0.5),
      rival: quantile(rival, 0.5),
      rivalName: "raw SQLite, all rows of runs",
      runs: OPENINGS,
    });
  });
}

function openOurs(path: string): void {
  const journal = openJournal({ path });
  journal.unfinished();
  journal.heartbeatRuns();
  journal.close();
}

function openRaw(path: string): void {
  const db = openDb(path);
  db.prepare("SELECT * FROM runs").all();
  db.close();
}

/** What an acknowledgement costs, with its truncation. */
export async function acks(): Promise<BenchResult[]> {
  return [await ack(1), await ack(256)];
}

async function ack(events_: number): Promise<BenchResult> {
  return await inFolder(async (dir) => {
    const journal = openJournal({ path: join(dir, "journal.db") });
    journal.createRun(dispatchOf("run_1"));
    for (let n = 0; n < ACKS; n++) journal.append("run_1", 1, events(events_));
    let chain = CHAIN_START;
    let seq = 0;
    const samples: number[] = [];
    for (let n = 0; n < ACKS; n++) {
      for (const row of journal.read("run_1", 1, seq, events_)) {
        chain = nextChain(chain, row.data);
        seq = row.seq;
      }
      samples.push(1000 * timed(() => journal.ack("run_1", { attempt: 1, seq, chain })));
    }
    journal.close();
    const ours = quantile(samples, 0.5);
    return alone({ metric: `ack_of_${events_}_events_p50_us`, unit: "µs", ours, runs: ACKS });
  });
}

function ackAll(journal: Journal, runId: string, count: number): void {
  journal.append(runId, 1, [...events(count), { type: "run.completed", payload: {} }]);
  let chain = CHAIN_START;
  for (const { data } of journal.read(runId, 1, 0)) chain = nextChain(chain, data);
  journal.ack(runId, { attempt: 1, seq: count + 1, chain });
}

function events(count: number) {
  return Array.from({ length: count }, (_, n) => eventOf(n));
}

function timed(work: () => void): number {
  const startedAt = performance.now();
  work();
  return performance.now() - startedAt;
}

async function inFolder<T>(work: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), "deco-bench-"));
  try {
    return await work(dir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
