import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { openHubKeys } from "../../src/hub/keys.ts";
import { httpRequest } from "../../src/net/http-request.ts";
import { readSse } from "../../src/net/sse-read.ts";
import { startDeco } from "../../test/support/run-deco.ts";
import { bytesIn, findPids, rssMib } from "../proc-rss.ts";
import { type BenchResult, quantile } from "../result.ts";

/**
 * Memory and files of hub, daemon and harnessd over one run with as many events as a 10-hour agent
 * gives: one per 100 ms in the mean, deltas and tool output together, so 360,000. They come as fast
 * as 2,000 a second. `LONG_RUN_EVENTS` asks for another number.
 */
const EVENTS = Number(process.env["LONG_RUN_EVENTS"] ?? 360_000);
const PAUSE_SECONDS = 0.0004;
const SAMPLE_MS = 500;
const TIMEOUT_MS = 14 * 60_000;
const signal = AbortSignal.timeout(TIMEOUT_MS);
const Listening = z.object({ url: z.string() });
const Accepted = z.object({ runId: z.string() });

/** Lines of 40 to 280 bytes, each written by itself; the ends says how many there were. */
const AGENT = `exec perl -e '$| = 1; for ($i = 1; ; $i++) { last if -e "enough";
syswrite STDOUT, "line $i " . ("x" x (30 + ($i * 7919) % 240)) . "\\n"; select(undef, undef, undef, ${PAUSE_SECONDS}) }'`;

interface Sample {
  readonly hub: number;
  readonly daemon: number;
  readonly harnessd: number;
  readonly journalMib: number;
  readonly segmentsMib: number;
}

async function measure(runtime: "bun" | "node"): Promise<BenchResult[]> {
  const home = await mkdtemp(join(tmpdir(), "deco-long-"));
  try {
    const data = join(home, "hub");
    await using hub = await startDeco(["hub", "--json", "--port", "0", "--data", data], {
      home: join(home, "h"),
      runtime,
      timeoutMs: TIMEOUT_MS,
    });
    const [line] = await hub.until(/^\{"type":"hub.listening".*$/m);
    const { url } = Listening.parse(JSON.parse(line));
    const token = await openHubKeys(data).userToken({ user: "bench", ttlSeconds: 3600 });
    const linkHome = join(home, "l");
    await using link = await startDeco(
      ["link", "--json", "--hub", url, "--local-sandbox-provider", "process"],
      { home: linkHome, runtime, env: { DECO_TOKEN: token }, timeoutMs: TIMEOUT_MS },
    );
    await link.until(/link\.online/);
    return await watchRun({
      hub: { url, token },
      linkHome,
      runtime,
      pids: { hub: hub.child.pid ?? 0, daemon: link.child.pid ?? 0 },
    });
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

interface Watched {
  readonly hub: { readonly url: string; readonly token: string };
  readonly linkHome: string;
  readonly runtime: "bun" | "node";
  readonly pids: { readonly hub: number; readonly daemon: number };
}

async function watchRun(watched: Watched): Promise<BenchResult[]> {
  const { hub } = watched;
  const headers = { authorization: `Bearer ${hub.token}` };
  const answer = await httpRequest({
    url: `${hub.url}/api/runs`,
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify({ harness: "shell", prompt: AGENT }),
    signal,
  });
  const { runId } = Accepted.parse(await answer.json());
  const samples: Sample[] = [];
  const over = new AbortController();
  const sampling = sample(watched, samples, over.signal);
  const startedAt = performance.now();
  const events = await readUntilEnough(`${hub.url}/api/runs/${runId}`, headers);
  const seconds = (performance.now() - startedAt) / 1000;
  over.abort();
  await sampling;
  return rows({ samples, events, seconds, runtime: watched.runtime });
}

/** Counts what a client of the hub gets; with enough it cancels the run and reads to its end. */
async function readUntilEnough(run: string, headers: Record<string, string>): Promise<number> {
  const answer = await httpRequest({ url: `${run}/events`, headers, signal });
  let seen = 0;
  for await (const { id, event } of readSse(answer)) {
    seen += 1;
    if (id !== String(seen)) throw new Error(`event ${id} instead of ${seen}`);
    if (event === "run.failed") throw new Error("the run failed");
    if (seen !== EVENTS) continue;
    const cancelled = await httpRequest({
      url: `${run}/cancel`,
      method: "POST",
      headers: { ...headers, "content-type": "application/json" },
      body: "{}",
      signal,
    });
    await cancelled.bytes();
  }
  if (seen < EVENTS) throw new Error(`the run ended after ${seen} events`);
  return seen;
}

async function sample(watched: Watched, samples: Sample[], over: AbortSignal): Promise<void> {
  const { pids, linkHome } = watched;
  const state = join(linkHome, "state");
  let harness: number | undefined;
  while (!over.aborted) {
    harness ??= findPids("/opt/deco/harnessd", linkHome).at(-1);
    if (harness !== undefined) {
      const now = {
        hub: rssMib(pids.hub),
        daemon: rssMib(pids.daemon),
        harnessd: rssMib(harness),
        journalMib: bytesIn(state, /^journal\.db/) / 2 ** 20,
        segmentsMib: bytesIn(`/proc/${harness}/root/run/harnessd`, /events-\d+\.log$/) / 2 ** 20,
      };
      samples.push(now);
      if (samples.length % 40 === 0) console.error(JSON.stringify(now));
    }
    await sleep(SAMPLE_MS);
  }
}

function rows(o: {
  samples: readonly Sample[];
  events: number;
  seconds: number;
  runtime: "bun" | "node";
}): BenchResult[] {
  const { samples, events, seconds, runtime } = o;
  const one = { runtime, rival: null, rivalName: null, ratio: null, runs: 1 } as const;
  const quarter = Math.floor(samples.length / 4);
  const median = (part: readonly Sample[], name: keyof Sample) =>
    quantile(
      part.map((each) => each[name]),
      0.5,
    );
  const memory = (["hub", "daemon", "harnessd"] as const).flatMap((name): BenchResult[] => [
    {
      ...one,
      metric: `${name}_rss_last_quarter_mib`,
      unit: "MiB",
      ours: median(samples.slice(-quarter), name),
      rival: median(samples.slice(0, quarter), name),
      rivalName: "first quarter",
      ratio: median(samples.slice(-quarter), name) / median(samples.slice(0, quarter), name),
    },
    { ...one, metric: `${name}_rss_max_mib`, unit: "MiB", ours: top(samples, name) },
  ]);
  return [
    { ...one, metric: "events", unit: "events", ours: events },
    { ...one, metric: "events_per_s_at_the_reader", unit: "1/s", ours: events / seconds },
    ...memory,
    { ...one, metric: "journal_files_max_mib", unit: "MiB", ours: top(samples, "journalMib") },
    { ...one, metric: "harnessd_log_max_mib", unit: "MiB", ours: top(samples, "segmentsMib") },
  ];
}

function top(samples: readonly Sample[], name: keyof Sample): number {
  return Math.max(...samples.map((each) => each[name]));
}

const runtime = process.argv[2] === "node" ? "node" : "bun";
console.log(JSON.stringify(await measure(runtime)));
