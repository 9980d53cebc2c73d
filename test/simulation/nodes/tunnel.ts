import type { TunnelPeer } from "../../../src/net/tunnel-peer.ts";
import type { TunnelHandler } from "../../../src/net/tunnel-serve.ts";
import { deferred } from "../../../src/protocol/deferred.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import type { Closed, Connection } from "./connection.ts";

/** The daemon's end. */
export interface SimTunnelEnd extends AsyncDisposable {
  readonly closed: Promise<Closed>;
}

type HubEnd = Pick<TunnelPeer, "request" | "closed" | "close">;

/** One tunnel, from the dial to its end. The daemon is the connection's client. */
export class Tunnel {
  readonly connection: Connection;
  readonly opened = deferred<SimTunnelEnd>();
  readonly #handler: TunnelHandler;

  constructor(connection: Connection, handler: TunnelHandler) {
    this.connection = connection;
    this.#handler = handler;
    this.opened.promise.catch(() => undefined);
  }

  /** At the hub, once it has let the dialler in. */
  accept(): Promise<HubEnd> {
    const { connection } = this;
    connection.send("server", () =>
      this.opened.resolve({
        closed: connection.closed.client,
        [Symbol.asyncDispose]: () => {
          connection.close("client", 1001, "leaving");
          return Promise.resolve();
        },
      }),
    );
    const handler = (request: Request) => this.#handler(request, {});
    return Promise.resolve({
      closed: connection.closed.server,
      close: (code = 1000, reason = "") => connection.close("server", code, reason),
      request: async ({ method, path, headers, body, signal }) => {
        const url = `http://daemon${path}`;
        const wire = { method, url, headers: plain(headers), signal };
        const bytes = body instanceof Uint8Array ? { body } : {};
        return connection.request("server", { ...wire, ...bytes }, handler);
      },
    });
  }

  refuse(problem: unknown): void {
    this.connection.send("server", () => this.opened.reject(DecoError.fromProblem(problem)));
  }
}

function plain(headers: Headers | Readonly<Record<string, string>>): Record<string, string> {
  return headers instanceof Headers ? Object.fromEntries(headers) : { ...headers };
}
