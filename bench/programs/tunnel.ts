import { spawn } from "node:child_process";
import { once } from "node:events";
import { Agent, type IncomingMessage, request as requestHttp } from "node:http";
import { createInterface } from "node:readline";
import { listen } from "../../src/net/listen.ts";
import { upgradeToTunnel } from "../../src/net/tunnel-accept.ts";
import { dialTunnel } from "../../src/net/tunnel-dial.ts";
import type { TunnelPeer } from "../../src/net/tunnel-peer.ts";
import { deferred } from "../../src/protocol/deferred.ts";
import { against, type BenchResult, quantile } from "../result.ts";

/** One request at a time, one large body each way: our tunnel against the same app directly. */
const PINGS = 2000;
const BULK_BYTES = 256 * 2 ** 20;
const BULK_RUNS = 3;
const CHUNK = new Uint8Array(65_536).fill(97);
const never = new AbortController().signal;

/** Asks for a path and reads the whole answer; gives the bytes that came. */
type Ask = (path: string, upload?: number) => Promise<number>;

async function serveFar(hubUrl: string): Promise<void> {
  const server = await listen({ fetch: answer }, { port: 0 });
  const tunnel = await dialTunnel({ url: hubUrl, headers: {}, handler: answer, signal: never });
  console.log(server.url);
  await tunnel.closed;
  await server[Symbol.asyncDispose]();
}

async function answer(request: Request): Promise<Response> {
  const { pathname, searchParams } = new URL(request.url);
  if (pathname === "/ping") return new Response("ok");
  if (pathname === "/down") return new Response(blob(Number(searchParams.get("n"))));
  let bytes = 0;
  for await (const chunk of request.body ?? []) bytes += chunk.length;
  return new Response(String(bytes));
}

function blob(size: number): ReadableStream<Uint8Array> {
  let left = size;
  return new ReadableStream({
    pull(controller) {
      const chunk = CHUNK.subarray(0, Math.min(left, CHUNK.length));
      left -= chunk.length;
      if (chunk.length > 0) controller.enqueue(chunk);
      else controller.close();
    },
  });
}

async function measure(): Promise<BenchResult[]> {
  const accepted = deferred<TunnelPeer>();
  await using hub = await listen(
    { fetch: () => new Response() },
    {
      port: 0,
      onUpgrade: (request, socket, head) =>
        void upgradeToTunnel(request, socket, head).then(accepted.resolve, accepted.reject),
    },
  );
  const child = spawn(process.execPath, [process.argv[1] ?? "", "far", `${hub.url}/tunnel`], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(createInterface(child.stdout), "line");
  const url = String(line);
  await using peer = await accepted.promise;
  const agent = new Agent({ keepAlive: true });
  const results = await compare(askTunnel(peer), askDirect(url, agent));
  agent.destroy();
  peer.close();
  await once(child, "exit");
  return results;
}

async function compare(ours: Ask, direct: Ask): Promise<BenchResult[]> {
  const pings = { ours: [] as number[], direct: [] as number[] };
  for (let i = 0; i < PINGS; i++) {
    pings.ours.push((await timed(() => ours("/ping"))) * 1000);
    pings.direct.push((await timed(() => direct("/ping"))) * 1000);
  }
  const warm = { ours: pings.ours.slice(PINGS / 10), direct: pings.direct.slice(PINGS / 10) };
  const latency = [0.5, 0.99].map((q) =>
    against({
      metric: `request_p${q * 100}_us`,
      unit: "µs",
      ours: quantile(warm.ours, q),
      rival: quantile(warm.direct, q),
      rivalName: "direct",
      runs: warm.ours.length,
    }),
  );
  const down = await bulk("download_256_mib_mb_s", ours, direct, (ask) =>
    ask(`/down?n=${BULK_BYTES}`),
  );
  const up = await bulk("upload_256_mib_mb_s", ours, direct, (ask) => ask("/up", BULK_BYTES));
  return [...latency, down, up];
}

async function bulk(metric: string, ours: Ask, direct: Ask, move: (ask: Ask) => Promise<unknown>) {
  const rates = { ours: [] as number[], direct: [] as number[] };
  for (let i = 0; i < BULK_RUNS; i++) {
    rates.ours.push(BULK_BYTES / 1000 / (await timed(() => move(ours))));
    rates.direct.push(BULK_BYTES / 1000 / (await timed(() => move(direct))));
  }
  return against({
    metric,
    unit: "MB/s",
    ours: quantile(rates.ours, 0.5),
    rival: quantile(rates.direct, 0.5),
    rivalName: "direct",
    runs: BULK_RUNS,
  });
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

function askTunnel(peer: TunnelPeer): Ask {
  return async (path, upload) => {
    const { body } = await peer.request({
      method: upload === undefined ? "GET" : "POST",
      path,
      headers: {},
      signal: never,
      ...(upload === undefined ? {} : { body: blob(upload) }),
    });
    let bytes = 0;
    for await (const chunk of body) bytes += chunk.length;
    return bytes;
  };
}

function askDirect(url: string, agent: Agent): Ask {
  return async (path, upload) => {
    const method = upload === undefined ? "GET" : "POST";
    const request = requestHttp(`${url}${path}`, { agent, method });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      request.once("response", resolve).once("error", reject);
    });
    if (upload !== undefined) {
      for await (const chunk of blob(upload)) {
        if (!request.write(chunk)) await once(request, "drain");
      }
    }
    request.end();
    let bytes = 0;
    for await (const chunk of await answered) bytes += Buffer.byteLength(chunk);
    return bytes;
  };
}

if (process.argv[2] === "far") await serveFar(process.argv[3] ?? "");
else console.log(JSON.stringify(await measure()));
