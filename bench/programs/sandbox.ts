import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { httpRequest } from "../../src/net/http-request.ts";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import { createProviders } from "../../src/sandbox/providers.ts";
import { against, alone, type BenchResult, quantile } from "../result.ts";

/** From "make me one" to harnessd's answer: our provider against `docker run` of the same image. */
const RUNS = 9;
const signal = AbortSignal.timeout(10 * 60_000);
const run = promisify(execFile);
const log = { debug() {}, info() {}, warn() {} };

async function measure(): Promise<BenchResult[]> {
  const runRoot = await mkdtemp(join(tmpdir(), "deco-bench-"));
  const cacheDir = join(import.meta.dirname, "../../.cache/deco");
  const instanceId = `bench${process.pid}`;
  try {
    const providers = createProviders({ instanceId, runRoot, cacheDir, log });
    const results: BenchResult[] = [];
    const docker = providers.get("docker");
    if (docker && (await docker.probe(signal)).available) results.push(await dockerStart(docker));
    else console.error("SKIPPED docker: no engine answers, run `npm run engines`");
    const confined = providers.get("process");
    if (confined && (await confined.probe(signal)).confined)
      results.push(await processStart(confined));
    else console.error("SKIPPED process: nothing here can confine");
    return results;
  } finally {
    await rm(runRoot, { recursive: true, force: true });
  }
}

async function dockerStart(provider: SandboxProvider): Promise<BenchResult> {
  const image = await warmUp(provider);
  const ours: number[] = [];
  const rival: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    ours.push(await coldStart(provider, `bench-${i}`));
    rival.push(await dockerRun(image));
  }
  return against({
    metric: "cold_start_p50_ms",
    unit: "ms",
    ours: quantile(ours, 0.5),
    rival: quantile(rival, 0.5),
    rivalName: "docker run",
    runs: RUNS,
  });
}

async function processStart(provider: SandboxProvider): Promise<BenchResult> {
  await warmUp(provider);
  const ours: number[] = [];
  for (let i = 0; i < RUNS; i++) ours.push(await coldStart(provider, `bench-${i}`));
  return alone({
    metric: "process_cold_start_p50_ms",
    unit: "ms",
    ours: quantile(ours, 0.5),
    runs: RUNS,
  });
}

/** Builds the image or binary outside of what is measured. */
async function warmUp(provider: SandboxProvider): Promise<string> {
  const { image } = await provider.ensure("bench-warm", {}, context, signal);
  await provider.remove("bench-warm", signal);
  return image ?? "";
}

const context = {
  instanceId: `bench${process.pid}`,
  onStage() {},
};

async function coldStart(provider: SandboxProvider, handle: string): Promise<number> {
  const started = performance.now();
  await provider.ensure(handle, {}, context, signal);
  const ms = performance.now() - started;
  await provider.remove(handle, signal);
  return ms;
}

async function dockerRun(image: string): Promise<number> {
  const started = performance.now();
  const flags = ["-d", "--pull", "never", "-p", "127.0.0.1::8080"];
  const open = ["-e", "HARNESS_ALLOW_UNAUTHENTICATED=1"];
  const { stdout } = await run("docker", ["run", ...flags, ...open, image]);
  const id = stdout.trim();
  try {
    const port = await run("docker", ["port", id, "8080/tcp"]);
    await firstAnswer(`http://${port.stdout.trim().split("\n")[0]}/healthz`);
    return performance.now() - started;
  } finally {
    await run("docker", ["rm", "-f", id]);
  }
}

async function firstAnswer(url: string): Promise<void> {
  for (;;) {
    const answer = await httpRequest({ url, signal }).catch(() => undefined);
    await answer?.bytes();
    if (answer?.status === 200) return;
    await delay(5, undefined, { signal });
  }
}

console.log(JSON.stringify(await measure()));
