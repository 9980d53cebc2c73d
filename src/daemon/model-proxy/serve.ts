import { lchown, lstat, unlink } from "node:fs/promises";
import { createServer, type RequestListener, type Server } from "node:http";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { DecoError } from "../../protocol/errors.ts";
import { refuseSocket } from "./refuse.ts";

/** A server that disposing closes together with all its connections. */
export interface ModelListener extends AsyncDisposable {
  readonly url: string;
  /** 0 for a unix socket. */
  readonly port: number;
}

/** More than any harness opens; what floods it finds no more of the daemon's descriptors. */
const MAX_CONNECTIONS = 128;
const MAX_SOCKET_PATH = 103;

/** Serves on `model.sock` in a sandbox's run directory, for the sandbox's uid alone. */
export async function serveSocket(
  handler: RequestListener,
  o: { runDir: string; uid: number },
): Promise<ModelListener> {
  const path = join(o.runDir, "model.sock");
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    throw new DecoError("usage", `${path} is too long for a socket`, {
      fix: "Set DECO_HOME to a shorter path.",
    });
  }
  await removeStale(path);
  const server = buildServer(handler);
  // Mode 0600 from the start. No chmod, and no chown that follows links: a guest that runs already
  // (after a restart of the daemon) could put a link here.
  const umask = process.umask(0o177);
  const bound = bind(server, { path });
  process.umask(umask);
  await bound;
  if (process.getuid?.() === 0) await lchown(path, o.uid, o.uid);
  return { url: `unix:${path}`, port: 0, [Symbol.asyncDispose]: () => close(server) };
}

/** Serves on TCP, for engines in a VM that sockets can't reach. The token is the same. */
export async function serveTcp(
  handler: RequestListener,
  o: { host: string; port: number },
): Promise<ModelListener> {
  const server = buildServer(handler);
  await bind(server, o);
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const host = o.host.includes(":") ? `[${o.host}]` : o.host;
  return { url: `http://${host}:${port}`, port, [Symbol.asyncDispose]: () => close(server) };
}

function buildServer(handler: RequestListener): Server {
  const server = createServer(handler);
  server.maxConnections = MAX_CONNECTIONS;
  server.on("connect", refuseBareSocket);
  server.on("upgrade", refuseBareSocket);
  server.on("clientError", (_error, socket) => socket.destroy());
  return server;
}

function refuseBareSocket(_request: unknown, socket: Duplex): void {
  refuseSocket(socket, new DecoError("model_refused", "no upgrades and no tunnels here"));
}

async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  // The guest owns this directory: whatever it put here goes, and links are not followed.
  if (found.isDirectory()) throw new DecoError("port_in_use", `${path} is a directory`);
  await unlink(path);
}

function bind(server: Server, where: { path: string } | { host: string; port: number }) {
  return new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const taken = error.code === "EADDRINUSE";
      reject(taken ? new DecoError("port_in_use", error.message, { cause: error }) : error);
    });
    server.listen(where, resolve);
  });
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}
