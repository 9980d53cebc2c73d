import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { connect } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import { z } from "zod";
import { readText, startHarnessd, type TestHarnessd, TOKEN } from "./harnessd-process.ts";

// A server "inside" (this test's), reached through the real harnessd.
let harnessd: TestHarnessd;
let inside: Server;
let port: number;

beforeAll(async () => {
  harnessd = await startHarnessd();
  inside = createServer((request, response) => void answerInside(request, response));
  const sockets = new WebSocketServer({ server: inside });
  sockets.on("connection", (socket) => {
    socket.on("message", (data: Buffer) => socket.send(`echo ${data.toString()}`));
  });
  port = await listen(inside, "127.0.0.1");
});
afterAll(async () => {
  await harnessd[Symbol.asyncDispose]();
  inside.closeAllConnections();
  inside.close();
});

async function answerInside(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await readText(request);
  if (request.url === "/sse") {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("data: first\n\n");
    return;
  }
  const { method, url, headers } = request;
  response.writeHead(201, { "content-type": "application/json", "x-answer": "yes" });
  response.end(JSON.stringify({ method, url, headers, body }));
}

function listen(server: Server, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, host, () => {
      const address = server.address();
      resolve(typeof address === "object" && address ? address.port : 0);
    });
  });
}

function send(path: string, method: string, headers: Record<string, string>, body?: string) {
  return new Promise<IncomingMessage>((resolve, reject) => {
    const all = { authorization: `Bearer ${TOKEN}`, ...headers };
    const request = httpRequest(harnessd.url + path, { method, headers: all, agent: false });
    request.once("response", resolve);
    request.once("error", reject);
    request.end(body);
  });
}

test("method, path, query, headers and body reach the server inside; harnessd's token does not", async () => {
  const headers = { "x-mine": "1", "x-forwarded-authorization": "Bearer theirs" };
  const answer = await send(`/v1/ports/${port}/a%2Fb/c?d=e&f`, "PUT", headers, "the body");
  expect(answer.statusCode).toBe(201);
  expect(answer.headers["x-answer"]).toBe("yes");
  const text = await readText(answer);
  const seen = z
    .object({
      method: z.string(),
      url: z.string(),
      body: z.string(),
      headers: z.record(z.string(), z.string()),
    })
    .parse(JSON.parse(text));
  expect(seen).toMatchObject({ method: "PUT", url: "/a%2Fb/c?d=e&f", body: "the body" });
  expect(seen.headers["x-mine"]).toBe("1");
  expect(seen.headers["authorization"]).toBe("Bearer theirs");
  expect(text).not.toContain(TOKEN);
});

test("a port without a path is the server's root", async () => {
  const answer = await send(`/v1/ports/${port}?x=1`, "GET", {});
  expect(JSON.parse(await readText(answer))).toMatchObject({ url: "/?x=1" });
});

test("an answer streams: its first piece is there while the server still writes", async () => {
  const answer = await send(`/v1/ports/${port}/sse`, "GET", {});
  const first = await new Promise((resolve) => {
    answer.once("data", (bytes: Buffer) => resolve(bytes.toString()));
  });
  expect(first).toBe("data: first\n\n");
  answer.destroy();
});

test("a WebSocket through the port carries messages both ways", async () => {
  const url = `${harnessd.url.replace("http", "ws")}/v1/ports/${port}/ws`;
  const socket = new WebSocket(url, { headers: { authorization: `Bearer ${TOKEN}` } });
  await new Promise((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
  });
  const answer = new Promise((resolve) => {
    socket.once("message", (data: Buffer) => resolve(data.toString()));
  });
  socket.send("hello");
  expect(await answer).toBe("echo hello");
  const closed = new Promise((resolve) => {
    socket.once("close", resolve);
  });
  socket.close();
  await closed;
});

test("an upgrade without the token is refused", async () => {
  const { port: own } = new URL(harnessd.url);
  const answer = await new Promise<string>((resolve) => {
    const socket = connect(Number(own), "127.0.0.1");
    socket.once("data", (bytes) => resolve(bytes.toString()));
    socket.write(
      `GET /v1/ports/${port}/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`,
    );
  });
  expect(answer).toStartWith("HTTP/1.1 401 ");
});

test("a port that nobody listens on is port_unreachable", async () => {
  const free = createServer();
  const unused = await listen(free, "127.0.0.1");
  await new Promise((resolve) => free.close(resolve));
  const answer = await harnessd.call("GET", `/v1/ports/${unused}/`);
  expect(answer).toMatchObject({ status: 502, body: { error: { code: "port_unreachable" } } });
  expect((await harnessd.call("GET", "/v1/ports/70000/")).status).toBe(400);
});

test("a server that listens on ::1 only is reached too", async () => {
  const six = createServer((_request, response) => response.end("six"));
  const sixPort = await listen(six, "::1").catch(() => 0);
  if (sixPort === 0) return; // no IPv6 here
  const answer = await harnessd.call("GET", `/v1/ports/${sixPort}/`);
  expect(answer).toEqual({ status: 200, body: "six" });
  six.close();
});
