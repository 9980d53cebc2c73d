import {
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from "node:http";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { HOP_BY_HOP } from "../protocol/hop-by-hop.ts";

/** Where a request under `/v1/ports/{port}` goes: what stands behind the port, with its query. */
interface Target {
  readonly port: number;
  readonly path: string;
}

/** Where the daemon puts a caller's own Authorization header, as that one carries harnessd's token. */
const CALLERS_AUTHORIZATION = "x-forwarded-authorization";

/** Marks our own refusals, so that the daemon tells them from what a server inside answered. */
const REFUSAL = "x-harnessd-refusal";

/** Headers that belong to one connection, and those set anew here. */
const NOT_PASSED_ON: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  "host",
  "authorization",
  CALLERS_AUTHORIZATION,
  REFUSAL,
]);

/** A server inside may listen on either loopback address only. */
const LOOPBACKS = ["127.0.0.1", "::1"] as const;

/** Forwards one request to a server inside the sandbox; both bodies stream. */
export async function proxyRequest(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const target = readTarget(incoming.url ?? "");
  if (!target) return refuse(outgoing, 400, "invalid_request", "not a port from 1 to 65535");
  const host = await reach(target.port);
  if (outgoing.destroyed) return;
  if (host !== undefined) return forward(incoming, outgoing, target, host);
  incoming.resume();
  refuse(outgoing, 502, "port_unreachable", `nothing listens on port ${target.port}`);
}

/** Forwards an upgrade (WebSocket): bytes both ways, unread, until either side ends. */
export async function proxyUpgrade(
  incoming: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const target = readTarget(incoming.url ?? "");
  const upstream = target ? await dialLoopback(target.port) : undefined;
  if (!target || !upstream) {
    endUpgrade(socket, "502 Bad Gateway", "port_unreachable", "nothing listens on that port");
    return;
  }
  const lines = [`${incoming.method} ${target.path} HTTP/1.1`, `host: localhost:${target.port}`];
  for (const [name, value] of Object.entries(forwardable(incoming.headers))) {
    for (const one of [value].flat()) lines.push(`${name}: ${one}`);
  }
  lines.push(`upgrade: ${incoming.headers.upgrade}`, "connection: Upgrade", "", "");
  upstream.write(lines.join("\r\n"), "latin1");
  if (head.length > 0) upstream.write(head);
  const end = () => {
    socket.destroy();
    upstream.destroy();
  };
  upstream.once("error", end);
  socket.once("error", end);
  upstream.once("close", () => socket.end());
  socket.once("close", () => upstream.end());
  upstream.pipe(socket);
  socket.pipe(upstream);
}

/** Answers an upgrade with an error. */
export function endUpgrade(socket: Duplex, status: string, code: string, message: string): void {
  const body = JSON.stringify({ error: { code, message } });
  const length = Buffer.byteLength(body);
  const head = `content-type: application/json\r\ncontent-length: ${length}\r\n${REFUSAL}: 1`;
  socket.once("error", () => socket.destroy());
  socket.end(`HTTP/1.1 ${status}\r\n${head}\r\nconnection: close\r\n\r\n${body}`);
}

function forward(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  { port, path }: Target,
  host: string,
): void {
  const headers: OutgoingHttpHeaders = {
    ...forwardable(incoming.headers),
    host: `localhost:${port}`,
  };
  const upstream = httpRequest({
    host,
    port,
    path,
    method: incoming.method,
    headers,
    agent: false,
  });
  upstream.once("response", (answer) => {
    const { statusCode = 502, statusMessage } = answer;
    outgoing.writeHead(statusCode, statusMessage ?? "", forwardable(answer.headers));
    outgoing.flushHeaders();
    answer.once("error", () => outgoing.destroy());
    answer.once("aborted", () => outgoing.destroy());
    answer.pipe(outgoing);
  });
  upstream.once("error", (error) => {
    if (outgoing.headersSent) outgoing.destroy();
    else refuse(outgoing, 502, "port_unreachable", error.message);
  });
  outgoing.once("close", () => upstream.destroy());
  incoming.once("error", () => upstream.destroy());
  incoming.pipe(upstream);
}

function forwardable(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  const named = (headers.connection ?? "").toLowerCase().split(/\s*,\s*/);
  const kept: OutgoingHttpHeaders = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || NOT_PASSED_ON.has(name) || named.includes(name)) continue;
    kept[name] = value;
  }
  const callers = headers[CALLERS_AUTHORIZATION];
  if (typeof callers === "string") kept.authorization = callers;
  return kept;
}

function readTarget(url: string): Target | undefined {
  const match = /^\/v1\/ports\/(\d{1,5})(\/[^?]*)?(\?.*)?$/.exec(url);
  const port = Number(match?.[1]);
  if (!match || port < 1 || port > 65_535) return undefined;
  return { port, path: `${match[2] ?? "/"}${match[3] ?? ""}` };
}

async function reach(port: number): Promise<string | undefined> {
  for (const host of LOOPBACKS) {
    const socket = await dial(host, port);
    socket?.destroy();
    if (socket) return host;
  }
  return undefined;
}

async function dialLoopback(port: number): Promise<Socket | undefined> {
  return (await dial(LOOPBACKS[0], port)) ?? (await dial(LOOPBACKS[1], port));
}

function dial(host: string, port: number): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      resolve(socket);
    });
    socket.once("error", () => resolve(undefined));
  });
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { "content-type": "application/json", [REFUSAL]: "1" });
  response.end(JSON.stringify({ error: { code, message } }));
}
