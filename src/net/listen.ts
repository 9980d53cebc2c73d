import { chmod, lstat, unlink } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { DecoError } from "../protocol/errors.ts";
import { malformed, refuseNonsense } from "./malformed.ts";
import { answerProblem } from "./raw-problem.ts";

/** A Hono app, or anything else that answers requests. */
export interface ListenApp {
  fetch(request: Request, facts: RequestFacts): Response | Promise<Response>;
}

/** What a Request does not say of itself. */
export interface RequestFacts {
  /** The request target as it stood on the wire. */
  readonly target: string;
}

export type ListenOptions = {
  /** Takes a raw upgrade; without it every upgrade is refused by closing the socket. */
  readonly onUpgrade?:
    | ((request: IncomingMessage, socket: Duplex, head: Buffer) => void)
    | undefined;
} & (
  | { readonly host?: string | undefined /** 0 = any free one. */; readonly port: number }
  | { readonly socketPath: string; readonly mode?: number | undefined }
);

/** A server that accepts connections. Disposing closes it and all its connections. */
export interface Listening extends AsyncDisposable {
  /** `http://127.0.0.1:4000`, or `unix:/path`. */
  readonly url: string;
  /** 0 for a unix socket. */
  readonly port: number;
  readonly server: Server;
}

/** Requests that still run when the server closes get so long to end. */
const GRACE_MS = 250;
/** Ms; 0 = none. Only a head that never ends is cut off. */
const TIMEOUTS = { requestTimeout: 0, headersTimeout: 60_000, keepAliveTimeout: 60_000 } as const;
/** A request without a Host is answered by us, with a problem document. */
const SERVER = { ...TIMEOUTS, requireHostHeader: false } as const;

/**
 * Serves an app on loopback or on a unix socket (mode 0600). No idle and no request time-out: uploads
 * and event streams last as long as they last.
 *
 * @throws {@link DecoError} `port_in_use` when the port, or a live unix socket, is taken.
 */
export async function listen(app: ListenApp, options: ListenOptions): Promise<Listening> {
  const answer = getRequestListener(
    (request, { incoming }) => app.fetch(request, { target: incoming.url ?? "/" }),
    {
      overrideGlobalObjects: false,
    },
  );
  const server = createServer(SERVER, (request, response) => {
    nonsense.answering(response);
    const error = malformed(request);
    if (error) refuse(request, response, error);
    else void answer(request, response);
  });
  const nonsense = refuseNonsense(server);
  server.timeout = 0;
  const upgraded = new Set<Duplex>();
  server.on("connection", (socket) => socket.setNoDelay(true));
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    upgraded.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => upgraded.delete(socket));
    const error = malformed(request);
    if (error) answerProblem(socket, error);
    else if (options.onUpgrade) options.onUpgrade(request, socket, head);
    else socket.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
  });
  if ("socketPath" in options) await bindSocket(server, options.socketPath, options.mode ?? 0o600);
  else await bind(server, { host: options.host ?? "127.0.0.1", port: options.port });
  return {
    ...place(server),
    server,
    [Symbol.asyncDispose]: () => close(server, upgraded),
  };
}

function refuse(request: IncomingMessage, response: ServerResponse, error: DecoError): void {
  request.resume();
  const body = Buffer.from(JSON.stringify(error.toProblem()));
  response.writeHead(error.info.status, {
    "content-type": "application/problem+json",
    "content-length": body.length,
  });
  response.end(body);
}

async function bindSocket(server: Server, path: string, mode: number): Promise<void> {
  if (path.length > 103)
    throw new DecoError("usage", `the socket path is over 103 bytes: ${path}`, {
      fix: "Set DECO_HOME to a shorter path.",
    });
  await removeStale(path);
  // The file must never be open to others, not even before the chmod.
  const umask = process.umask(0o177);
  const bound = bind(server, { path });
  process.umask(umask);
  await bound;
  await chmod(path, mode);
}

async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (!found) return;
  if (!found.isSocket()) throw new DecoError("port_in_use", `${path} exists and is no socket`);
  if (await answers(path)) throw new DecoError("port_in_use", `another process serves ${path}`);
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (alive: boolean) => () => {
      socket.destroy();
      resolve(alive);
    };
    socket.once("connect", done(true));
    socket.once("error", done(false));
  });
}

function bind(
  server: Server,
  where: { host: string; port: number } | { path: string },
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const name = "path" in where ? where.path : `${where.host}:${where.port}`;
      if (error.code !== "EADDRINUSE") reject(error);
      else reject(new DecoError("port_in_use", `${name} is taken`, { cause: error }));
    });
    server.listen(where, () => resolve());
  });
}

function place(server: Server): { url: string; port: number } {
  const address = server.address();
  if (typeof address === "string" || address === null) return { url: `unix:${address}`, port: 0 };
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return { url: `http://${host}:${address.port}`, port: address.port };
}

/** `server.close()` alone would wait for ever for event streams and upgraded sockets. */
async function close(server: Server, upgraded: ReadonlySet<Duplex>): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  for (const socket of upgraded) socket.destroy();
  const timer = setTimeout(() => server.closeAllConnections(), GRACE_MS);
  await closed;
  clearTimeout(timer);
}
