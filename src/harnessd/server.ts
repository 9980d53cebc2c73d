import { chmod, chown, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { Socket } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { DecoError } from "../protocol/errors.ts";
import type { createApp } from "./app.ts";
import type { Authorize } from "./auth.ts";
import { endUpgrade, proxyUpgrade } from "./port-proxy.ts";

export interface ServerOptions {
  readonly app: ReturnType<typeof createApp>;
  readonly authorize: Authorize;
  readonly address?: { readonly host: string; readonly port: number };
  readonly socketPath?: string;
  readonly socketUid?: number;
}

/** Listeners of harnessd. */
export interface Listening extends AsyncDisposable {
  /** Absent without a TCP listener. */
  readonly url?: string;
  readonly socketPath?: string;
}

/**
 * Listens on TCP, on a unix socket, or on both, with the same routes.
 *
 * @throws port_in_use
 */
export async function startServer(options: ServerOptions): Promise<Listening> {
  const { address, socketPath, socketUid } = options;
  const sockets = new Set<Socket>();
  const servers: Server[] = [];
  const add = async (where: Where): Promise<Server> => {
    const server = newServer(options, sockets);
    servers.push(server);
    await listen(server, where);
    return server;
  };
  let url: string | undefined;
  if (address) {
    const bound = (await add(address)).address();
    const port = typeof bound === "object" && bound ? bound.port : address.port;
    const host = address.host === "0.0.0.0" ? "127.0.0.1" : address.host;
    url = `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
  }
  if (socketPath !== undefined) {
    // Left behind by a harnessd that was killed; nothing else may stand there.
    await rm(socketPath, { force: true });
    await add({ path: socketPath });
    await chmod(socketPath, 0o600);
    if (socketUid !== undefined) await chown(socketPath, socketUid, socketUid);
  }
  return {
    ...(url === undefined ? {} : { url }),
    ...(socketPath === undefined ? {} : { socketPath }),
    [Symbol.asyncDispose]: async () => {
      const closed = servers.map((server) => new Promise((resolve) => server.close(resolve)));
      for (const socket of sockets) socket.destroy();
      await Promise.all(closed);
    },
  };
}

type Where = { readonly host: string; readonly port: number } | { readonly path: string };

function newServer({ app, authorize }: ServerOptions, sockets: Set<Socket>): Server {
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer((request, response) => void listener(request, response));
  // An event stream or a proxied stream may be silent for hours.
  server.requestTimeout = 0;
  server.timeout = 0;
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("upgrade", (request, socket, head) => {
    if (!authorize(request.headers)) {
      endUpgrade(socket, "401 Unauthorized", "unauthorized", "no valid bearer token");
      return;
    }
    void proxyUpgrade(request, socket, head);
  });
  return server;
}

function listen(server: Server, where: Where): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const inUse = error.code === "EADDRINUSE";
      const place = "path" in where ? where.path : `${where.host}:${where.port}`;
      reject(inUse ? new DecoError("port_in_use", `${place} is taken`) : error);
    });
    server.listen(where, resolve);
  });
}
