import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { httpRequest } from "../../src/net/http-request.ts";
import { readSse } from "../../src/net/sse-read.ts";
import { startDeco } from "../../test/support/run-deco.ts";
import { alone, type BenchResult, quantile } from "../result.ts";

/** From `POST /api/runs` to the harness's first event at the client, through the whole path. */
const RUNS = 9;
const signal = AbortSignal.timeout(10 * 60_000);
const Up = z.object({ url: z.string() });
const Session = z.object({ hub: z.string(), token: z.string() });
const Sandboxes = z.object({ sandboxes: z.array(z.object({ handle: z.string() })) });
const Accepted = z.object({ runId: z.string() });

interface Hub {
  readonly url: string;
  readonly token: string;
}

async function measure(provider: "docker" | "process"): Promise<BenchResult[]> {
  const home = await mkdtemp(join(tmpdir(), "deco-bench-"));
  try {
    await using deco = await startDeco(["up", "--json", "--port", "0", "--provider", provider], {
      home,
      timeoutMs: 300_000,
    });
    const [line] = await deco.until(/^\{"type":"up".*$/m);
    const { url } = Up.parse(JSON.parse(line));
    const { token } = Session.parse(await Bun.file(join(home, "run/up.json")).json());
    const hub = { url, token };
    await firstHarnessEvent(hub, "warm"); // builds image or binary
    const cold: number[] = [];
    const warm: number[] = [];
    for (let i = 0; i < RUNS; i++) {
      cold.push(await firstHarnessEvent(hub, `cold-${i}`));
      warm.push(await firstHarnessEvent(hub, "warm"));
    }
    await removeSandboxes(join(home, "run/control.sock"));
    return [
      row(`${provider}_new_sandbox_first_event_p50_ms`, cold),
      row(`${provider}_same_sandbox_first_event_p50_ms`, warm),
    ];
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

/** Sandboxes of threads outlive the daemon, so they are removed by hand. */
async function removeSandboxes(socketPath: string): Promise<void> {
  const list = await httpRequest({ socketPath, path: "/v1/sandboxes", signal });
  for (const { handle } of Sandboxes.parse(await list.json()).sandboxes) {
    const path = `/v1/sandboxes/${handle}`;
    await (await httpRequest({ socketPath, path, method: "DELETE", signal })).bytes();
  }
}

function row(metric: string, samples: readonly number[]): BenchResult {
  return alone({ metric, unit: "ms", ours: quantile(samples, 0.5), runs: samples.length });
}

async function firstHarnessEvent(hub: Hub, thread: string): Promise<number> {
  const started = performance.now();
  const runId = await post(hub, thread);
  const answer = await httpRequest({
    url: `${hub.url}/api/runs/${runId}/events`,
    headers: { authorization: `Bearer ${hub.token}` },
    signal,
  });
  let ms = Number.NaN;
  for await (const { event } of readSse(answer)) {
    if (event === "tool.call.started" && Number.isNaN(ms)) ms = performance.now() - started;
  }
  return ms;
}

async function post(hub: Hub, thread: string): Promise<string> {
  const answer = await httpRequest({
    url: `${hub.url}/api/runs`,
    method: "POST",
    headers: { authorization: `Bearer ${hub.token}`, "content-type": "application/json" },
    body: JSON.stringify({ harness: "shell", prompt: "echo hi", thread }),
    signal,
  });
  return Accepted.parse(await answer.json()).runId;
}

const results = await measure("process");
results.unshift(...(await measure("docker")));
console.log(JSON.stringify(results));
