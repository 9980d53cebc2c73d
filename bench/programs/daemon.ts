import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { openHubKeys } from "../../src/hub/keys.ts";
import { startDeco } from "../../test/support/run-deco.ts";
import { rssMib } from "../proc-rss.ts";
import type { BenchResult } from "../result.ts";

/** What an idle daemon costs: memory, and CPU over half a minute of heartbeats. */
const SETTLE_MS = 10_000;
const IDLE_MS = 30_000;
const Listening = z.object({ url: z.string() });
const ticksPerSecond = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

async function measure(runtime: "bun" | "node"): Promise<BenchResult[]> {
  const dir = await mkdtemp(join(tmpdir(), "deco-bench-"));
  try {
    const data = join(dir, "hub");
    await using hub = await startDeco(["hub", "--json", "--port", "0", "--data", data], {
      home: join(dir, "h"),
      timeoutMs: 300_000,
    });
    const [line] = await hub.until(/^\{"type":"hub.listening".*$/m);
    const { url } = Listening.parse(JSON.parse(line));
    const token = await openHubKeys(data).userToken({ user: "bench", ttlSeconds: 3600 });
    await using link = await startDeco(["link", "--json", "--hub", url], {
      home: join(dir, "l"),
      runtime,
      env: { DECO_TOKEN: token },
      timeoutMs: 300_000,
    });
    await link.until(/link\.online/);
    await delay(SETTLE_MS);
    const pid = link.child.pid ?? 0;
    const before = cpuSeconds(pid);
    await delay(IDLE_MS);
    const cpuPercent = ((cpuSeconds(pid) - before) / (IDLE_MS / 1000)) * 100;
    const alone = { runtime, rival: null, rivalName: null, ratio: null, runs: 1 } as const;
    return [
      { metric: "idle_rss_mib", unit: "MiB", ours: rssMib(pid), ...alone },
      { metric: "idle_cpu_percent", unit: "% of a core", ours: cpuPercent, ...alone },
    ];
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** User and system time, fields 14 and 15 of proc(5) stat, counted behind the name. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

console.log(JSON.stringify([...(await measure("bun")), ...(await measure("node"))]));
