import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { createServer, request as httpRequest, type Server } from "node:http";
import type { Duplex } from "node:stream";
import { startHarnessd, type TestHarnessd, TOKEN } from "../harnessd/harnessd-process.ts";
import {
  type ControlPlane,
  controlPlane,
  read,
  type WireRequest,
} from "../support/control-plane.ts";

// The real harnessd; the server "inside" is this test's.
let harnessd: TestHarnessd;
let inside: Server;
let port: number;
let seen: { url?: string; headers?: Record<string, unknown>; bytes: number };

beforeAll(async () => {
  harnessd = await startHarnessd();
  inside = createServer((request, response) => {
    seen = { url: request.url ?? "", headers: { ...request.headers }, bytes: 0 };
    request.on("data", (chunk: Buffer) => {
      seen.bytes += chunk.length;
    });
    if (request.url === "/sse") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: first\n\n");
      return;
    }
    request.on("end", () => {
      response.writeHead(request.url === "/gone" ? 410 : 200, {
        "x-inside": "yes",
        "deco-x": "no",
        // What only harnessd may say.
        "x-harnessd-refusal": "1",
      });
      response.end(request.url === "/big" ? Buffer.alloc(12 * 1024 * 1024) : "inside");
    });
  });
  inside.on("upgrade", (_request, socket: Duplex) => {
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
    );
    socket.pipe(socket);
    socket.on("error", () => socket.destroy());
  });
  inside.listen(0, "127.0.0.1");
  await once(inside, "listening");
  const address = inside.address();
  port = typeof address === "object" && address !== null ? address.port : 0;
});
afterAll(async () => {
  await harnessd[Symbol.asyncDispose]();
  inside.closeAllConnections();
  inside.close();
});

describe.each(["tcp", "tunnel"] as const)("through %s", (through) => {
  test("a request reaches the server inside with its path and query, without our headers", async () => {
    await using plane = await planeWithBox();
    const headers = { authorization: "Basic abc", "x-own": "1" };
    const request = plane.sign({ method: "GET", path: inPort("/a%20b?c=d%26"), headers });
    const answer = await read(await plane.send(through, request));
    expect(answer).toMatchObject({ status: 200, text: "inside" });
    expect(answer.headers.get("x-inside")).toBe("yes");
    expect(answer.headers.get("deco-x")).toBeNull();
    expect(seen.url).toBe("/a%20b?c=d%26");
    expect(seen.headers).toMatchObject({ "x-own": "1", authorization: "Basic abc" });
    for (const name of ["signature", "signature-input", "content-digest", "deco-link-id"]) {
      expect(seen.headers).not.toHaveProperty(name);
    }
  });

  test("a port that nobody listens on is a signed problem document, port_unreachable", async () => {
    await using plane = await planeWithBox();
    const free = createServer().listen(0, "127.0.0.1");
    await once(free, "listening");
    const address = free.address();
    const unused = typeof address === "object" && address !== null ? address.port : 0;
    free.close();
    await once(free, "close");
    const path = inPort("/").replace(`/ports/${port}/`, `/ports/${unused}/`);
    const answer = await read(await plane.send(through, plane.sign({ method: "GET", path })));
    expect(answer.status).toBe(502);
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(answer.headers.has("signature")).toBe(true);
    expect(JSON.parse(answer.text)).toMatchObject({
      code: "port_unreachable",
      fix: expect.any(String),
    });
  });

  test("bodies over the cap pass as streams, both ways, and a status is passed on as it is", async () => {
    await using plane = await planeWithBox();
    const body = new Blob([Buffer.alloc(12 * 1024 * 1024)]).stream();
    const request = plane.sign({ method: "POST", path: inPort("/big"), body });
    const answer = await read(await plane.send(through, request));
    expect(answer.bytes.length).toBe(12 * 1024 * 1024);
    expect(seen.bytes).toBe(12 * 1024 * 1024);
    const gone = plane.sign({ method: "DELETE", path: inPort("/gone") });
    expect((await read(await plane.send(through, gone))).status).toBe(410);
  });

  test("an event stream comes at once, and ends inside when its reader leaves", async () => {
    await using plane = await planeWithBox();
    const leave = new AbortController();
    const request = plane.sign({ method: "GET", path: inPort("/sse") });
    const answer = await plane.send(through, { ...request, signal: leave.signal });
    const { value } = await answer.body.getReader().read();
    expect(new TextDecoder().decode(value)).toContain("data: first");
    leave.abort();
  });

  test("an unknown sandbox and a sandbox that is gone are typed, signed answers", async () => {
    await using plane = await planeWithBox();
    const path = `/v1/sandboxes/nope/ports/${port}/`;
    const unknown = await read(await plane.send(through, plane.sign({ method: "GET", path })));
    expect(unknown).toMatchObject({ status: 404, json: { code: "sandbox_not_found" } });
    expect(unknown.headers.get("signature")).not.toBeNull();
    plane.provider.endpointOf = { url: "http://127.0.0.1:1", token: TOKEN };
    const dead = plane.sign({ method: "GET", path: inPort("/") });
    const answer = await read(await plane.send(through, dead));
    expect(answer).toMatchObject({ status: 502, json: { code: "harness_unreachable" } });
  });
});

test("an upgrade passes through the tunnel as raw bytes both ways", async () => {
  await using plane = await planeWithBox();
  const { method, path, headers = {} } = plane.sign(upgradeRequest());
  const signal = new AbortController().signal;
  const answer = await plane.tunnel.upgrade({ method: "GET", path, headers, signal });
  expect([method, answer.status]).toEqual(["GET", 101]);
  if (!answer.socket) throw new Error("no socket");
  await echoes(answer.socket);
});

test("an upgrade passes over TCP, and a refused one is answered with its problem", async () => {
  await using plane = await planeWithBox();
  const good = plane.sign(upgradeRequest());
  const granted = await rawUpgrade(plane, good);
  expect(granted.status).toBe(101);
  if (granted.socket) await echoes(granted.socket);
  expect(await rawUpgrade(plane, upgradeRequest())).toMatchObject({
    status: 401,
    body: { code: "signature_missing" },
  });
  expect(await rawUpgrade(plane, good)).toMatchObject({
    status: 401,
    body: { code: "nonce_replayed" },
  });
});

function inPort(rest: string): string {
  return `/v1/sandboxes/box-1/ports/${port}${rest}`;
}

function upgradeRequest(): WireRequest {
  return { method: "GET", path: inPort("/ws"), headers: { upgrade: "echo" } };
}

async function planeWithBox(): Promise<ControlPlane> {
  const plane = await controlPlane();
  plane.provider.endpointOf = { url: harnessd.url, token: TOKEN };
  const made = plane.sign({
    method: "PUT",
    path: "/v1/sandboxes/box-1",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  expect((await read(await plane.send("tcp", made))).status).toBe(201);
  return plane;
}

async function echoes(socket: Duplex): Promise<void> {
  socket.write("over there");
  const [data] = await once(socket, "data");
  expect(String(data)).toBe("over there");
  const closed = once(socket, "close");
  socket.destroy();
  await closed;
}

function rawUpgrade({ tcpUrl }: ControlPlane, { path, headers }: WireRequest) {
  return new Promise<{ status: number; socket?: Duplex; body?: unknown }>((resolve, reject) => {
    const request = httpRequest(tcpUrl + path, {
      headers: { ...headers, connection: "Upgrade" },
      agent: false,
    });
    request.on("upgrade", ({ statusCode = 0 }, socket) => resolve({ status: statusCode, socket }));
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => {
        const body: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
        resolve({ status: response.statusCode ?? 0, body });
      });
    });
    request.on("error", reject);
    request.end();
  });
}
