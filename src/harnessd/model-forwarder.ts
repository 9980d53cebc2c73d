import { connect, createServer, type Server, type Socket } from "node:net";
import type { ModelUpstream } from "./config.ts";

/**
 * A loopback port for agents that can't speak HTTP over a unix socket: each connection is one to
 * the daemon's model proxy, byte by byte. It listens from the first use on.
 */
export class ModelForwarder implements AsyncDisposable {
  readonly #upstream: ModelUpstream;
  readonly #sockets = new Set<Socket>();
  #listening: Promise<{ server: Server; url: string }> | undefined;

  constructor(upstream: ModelUpstream) {
    this.#upstream = upstream;
  }

  /** `http://127.0.0.1:<port>` */
  async baseUrl(): Promise<string> {
    this.#listening ??= this.#listen();
    return (await this.#listening).url;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#listening) return;
    const { server } = await this.#listening;
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }

  #listen(): Promise<{ server: Server; url: string }> {
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#forward(socket));
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", () => {
        const address = server.address();
        const port = typeof address === "object" ? address?.port : undefined;
        resolve({ server, url: `http://127.0.0.1:${port}` });
      });
    });
  }

  #forward(socket: Socket): void {
    const target =
      "socketPath" in this.#upstream ? { path: this.#upstream.socketPath } : this.#upstream;
    const upstream = connect({ ...target, allowHalfOpen: true });
    for (const one of [socket, upstream]) {
      this.#sockets.add(one);
      one.once("close", () => this.#sockets.delete(one));
    }
    // A failure of one side ends the other: the agent sees a broken connection and tries again.
    socket.once("error", () => upstream.destroy());
    upstream.once("error", () => socket.destroy());
    socket.once("close", () => upstream.destroy());
    upstream.once("close", () => socket.end());
    if (upstream.destroyed) {
      // Bun tells of a missing socket before anyone can listen to it.
      socket.destroy();
      return;
    }
    socket.pipe(upstream);
    upstream.pipe(socket);
  }
}
