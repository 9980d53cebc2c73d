import { deferred } from "../protocol/deferred.ts";
import { CLOSE, Mux } from "../protocol/mux.ts";
import { type Heartbeat, startHeartbeat } from "./tunnel-heartbeat.ts";
import {
  type TunnelAnswer,
  type TunnelRequest,
  type TunnelUpgrade,
  tunnelRequest,
} from "./tunnel-request.ts";
import { serveStream, type TunnelHandler } from "./tunnel-serve.ts";
import type { MuxSocket } from "./tunnel-socket.ts";

export interface TunnelClosed {
  /** {@link CLOSE}, or a code of RFC 6455 (1006: broken without a word). */
  readonly code: number;
  readonly reason: string;
}

/** One end of a tunnel; both ends are this type. */
export interface TunnelPeer extends AsyncDisposable {
  /** @throws {@link DecoError} `tunnel_lost`, `tunnel_refused`; the signal's reason. */
  request(request: TunnelRequest): Promise<TunnelAnswer>;
  /** Like `request`, and when the answer is 101 the stream goes on as raw bytes. */
  upgrade(request: Omit<TunnelRequest, "body">): Promise<TunnelUpgrade>;
  readonly closed: Promise<TunnelClosed>;
  /** Ends the tunnel and every stream in it. */
  close(code?: number, reason?: string): void;
  /** Takes no more requests, lets those under way end until `signal` aborts, then closes with 4002. */
  drain(signal: AbortSignal): Promise<void>;
  /** Of the last heartbeat. */
  readonly rttMs: number | undefined;
  /** Whether `request` can be tried: neither closed nor left by the peer. */
  readonly accepting: boolean;
  /** Streams under way. */
  readonly streams: number;
}

export interface PeerOptions {
  readonly role: "hub" | "daemon";
  readonly socket: MuxSocket;
  /** Without one, what the peer asks is refused. */
  readonly handler?: TunnelHandler | undefined;
  /** 1.5 s; dead after three without a byte. */
  readonly heartbeatMs?: number | undefined;
  /** Streams that the peer may have open, 1024. */
  readonly maxStreams?: number | undefined;
}

export const HEARTBEAT_MS = 1500;

/** Runs the protocol over a connection that stands. It owns the socket from here on. */
export function createPeer(options: PeerOptions): TunnelPeer {
  const { socket, handler } = options;
  const closed = deferred<TunnelClosed>();
  const idle = new Idle();
  let verdict: TunnelClosed | undefined;
  const leave = (code: number, reason: string) => {
    verdict ??= { code, reason };
    mux.close();
    if (code === CLOSE.deadPeer) socket.terminate();
    else socket.close(code, reason);
  };
  const mux = new Mux({
    role: options.role,
    send: (message) => socket.send(message),
    buffered: () => socket.buffered(),
    onFault: leave,
    onIdle: () => idle.notify(),
    onPong: (payload) => heartbeat.onPong(payload),
    ...(handler
      ? { onRequest: (stream, head, ended) => serveStream(stream, head, ended, handler) }
      : {}),
    ...(options.maxStreams === undefined ? {} : { maxStreams: options.maxStreams }),
  });
  const heartbeat = startHeartbeat({
    intervalMs: options.heartbeatMs ?? HEARTBEAT_MS,
    received: () => socket.received(),
    ping: (payload) => mux.ping(payload),
    onDead: () => leave(CLOSE.deadPeer, "no byte for three heartbeats"),
  });
  socket.listen({
    onMessage: (message) => mux.receive(message),
    onDrain: () => mux.pump(),
    onClose(code, reason) {
      heartbeat.stop();
      mux.close();
      closed.resolve(verdict ?? { code, reason });
    },
  });
  return facade({ mux, idle, heartbeat, leave, closed: closed.promise });
}

function facade(parts: {
  readonly mux: Mux;
  readonly idle: Idle;
  readonly heartbeat: Heartbeat;
  readonly leave: (code: number, reason: string) => void;
  readonly closed: Promise<TunnelClosed>;
}): TunnelPeer {
  const { mux, idle, heartbeat, leave, closed } = parts;
  return {
    request: async (request) => tunnelRequest(mux, request, false),
    upgrade: async (request) => tunnelRequest(mux, request, true),
    closed,
    close: (code = 1000, reason = "") => leave(code, reason),
    async drain(signal) {
      mux.goaway();
      await idle.when(() => mux.size === 0, signal);
      leave(CLOSE.draining, "draining");
    },
    async [Symbol.asyncDispose]() {
      leave(1001, "leaving");
      await closed;
    },
    get rttMs() {
      return heartbeat.rttMs;
    },
    get accepting() {
      return mux.accepting;
    },
    get streams() {
      return mux.size;
    },
  };
}

/** Waits for a state that a callback announces. */
class Idle {
  #wake = new Set<() => void>();

  notify(): void {
    for (const wake of this.#wake) wake();
  }

  when(state: () => boolean, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const check = () => {
        if (!state() && !signal.aborted) return;
        this.#wake.delete(check);
        signal.removeEventListener("abort", check);
        resolve();
      };
      this.#wake.add(check);
      signal.addEventListener("abort", check);
      check();
    });
  }
}
