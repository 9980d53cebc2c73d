import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { type Listening, listen } from "../../../src/net/listen.ts";
import { refuseUpgrade, upgradeToTunnel } from "../../../src/net/tunnel-accept.ts";
import { type DialedTunnel, dialTunnel } from "../../../src/net/tunnel-dial.ts";
import type { TunnelPeer } from "../../../src/net/tunnel-peer.ts";
import type { TunnelHandler } from "../../../src/net/tunnel-serve.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import { portOf } from "./support.ts";

export const never = new AbortController().signal;

export interface TestHub extends AsyncDisposable {
  readonly url: string;
  /** The next tunnel that is let in. */
  next(): Promise<TunnelPeer>;
}

/** A hub's end on a real server; a dialler whose `x-link-secret` is a code is refused with it. */
export async function testHub(heartbeatMs?: number): Promise<TestHub> {
  const waiting: ((peer: TunnelPeer) => void)[] = [];
  const server: Listening = await listen(
    { fetch: () => new Response("hub") },
    {
      port: 0,
      onUpgrade(request, socket, head) {
        const secret = request.headers["x-link-secret"];
        if (secret === "revoked") {
          refuseUpgrade(socket, new DecoError("revoked", "this link was revoked"));
          return;
        }
        if (secret === "html") {
          socket.end("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>");
          return;
        }
        const options = heartbeatMs === undefined ? {} : { heartbeatMs };
        void upgradeToTunnel(request, socket, head, options).then((peer) =>
          waiting.shift()?.(peer),
        );
      },
    },
  );
  return {
    url: `${server.url}/api/links/tunnel`,
    next: () => new Promise((resolve) => waiting.push(resolve)),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

export interface Pair extends AsyncDisposable {
  readonly hub: TunnelPeer;
  readonly daemon: DialedTunnel;
  readonly wire: Wire;
}

/** Both ends of a tunnel, with a wire between them that can be cut and stopped. */
export async function tunnelPair(
  handler: TunnelHandler,
  options: { heartbeatMs?: number; maxStreams?: number } = {},
): Promise<Pair> {
  const hub = await testHub(options.heartbeatMs);
  const wire = await testWire(Number(new URL(hub.url).port));
  const url = `http://127.0.0.1:${wire.port}/api/links/tunnel`;
  const accepted = hub.next();
  const daemon = await dialTunnel({ url, headers: {}, handler, signal: never, ...options });
  return {
    hub: await accepted,
    daemon,
    wire,
    async [Symbol.asyncDispose]() {
      await daemon[Symbol.asyncDispose]();
      await wire[Symbol.asyncDispose]();
      await hub[Symbol.asyncDispose]();
    },
  };
}

export interface Wire extends AsyncDisposable {
  readonly port: number;
  /** Cuts all connections without a word. */
  cut(): void;
  /** Passes nothing on any more, and closes nothing: a half-open line. */
  stop(): void;
}

async function testWire(target: number): Promise<Wire> {
  const sockets = new Set<Socket>();
  let stopped = false;
  const server: Server = createServer((near) => {
    const far = connect(target, "127.0.0.1");
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        if (stopped) return;
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far);
    far.pipe(near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: portOf(server),
    cut,
    stop() {
      stopped = true;
      for (const socket of sockets) {
        socket.unpipe();
        socket.resume();
      }
    },
    async [Symbol.asyncDispose]() {
      cut();
      await new Promise((done) => server.close(done));
    },
  };
}
