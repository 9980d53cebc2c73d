import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { WebSocket } from "ws";
import { DecoError } from "../protocol/errors.ts";
import { answerError } from "./answer-error.ts";
import { headersOf } from "./http-request.ts";
import { createPeer, type TunnelPeer } from "./tunnel-peer.ts";
import type { TunnelHandler } from "./tunnel-serve.ts";
import { WS_OPTIONS, wsSocket } from "./tunnel-socket.ts";
import { webStream } from "./web-stream.ts";

export interface DialOptions {
  /** ws:, wss:, http: or https:. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly handler: TunnelHandler;
  /** Gives the dialling up, and closes a tunnel that stands. */
  readonly signal: AbortSignal;
  readonly onState?: ((state: "dialing" | "open" | "closed") => void) | undefined;
  /** Until the tunnel stands; 10 s. */
  readonly timeoutMs?: number | undefined;
  readonly heartbeatMs?: number | undefined;
  readonly maxStreams?: number | undefined;
  /** For tests with a certificate of their own. */
  readonly ca?: string | undefined;
}

export type DialedTunnel = TunnelPeer;

const TIMEOUT_MS = 10_000;

/**
 * Dials the hub and serves what comes through, in process. Once: dialling again is the caller's.
 *
 * @throws {@link DecoError} the code of the hub's problem document when it refuses the upgrade
 *   (`unknown_link`, `bad_secret`, `superseded`, `revoked`, …), else `hub_unreachable`; the signal's
 *   reason when it aborts.
 */
export async function dialTunnel(options: DialOptions): Promise<DialedTunnel> {
  const { signal, onState } = options;
  signal.throwIfAborted();
  onState?.("dialing");
  const peer = await open(options);
  onState?.("open");
  const onAbort = () => peer.close(1001, "leaving");
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  void peer.closed.finally(() => {
    signal.removeEventListener("abort", onAbort);
    onState?.("closed");
  });
  return peer;
}

function open(options: DialOptions): Promise<TunnelPeer> {
  const { signal } = options;
  const url = options.url.replace(/^http/, "ws");
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(url, {
      ...WS_OPTIONS,
      headers: options.headers,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
      // Masks guard caching proxies on a plain line; they cost Node two thirds of its upload rate (88 instead of 260 MB/s).
      ...(unseen(url) ? { generateMask: (mask: Buffer) => void mask.fill(0) } : {}),
    });
    let tcp: Socket | undefined;
    const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    const timer = setTimeout(() => {
      fail(unreachable(options, new Error(`no tunnel within ${timeoutMs} ms`)));
      ws.terminate();
    }, timeoutMs);
    const settled = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    };
    const fail = (error: unknown) => {
      settled();
      reject(error);
    };
    function onAbort(): void {
      fail(signal.reason);
      ws.terminate();
    }
    signal.addEventListener("abort", onAbort, { once: true });
    ws.on("error", (error) => fail(unreachable(options, error)));
    ws.once("close", () => fail(unreachable(options)));
    ws.once("upgrade", (response) => {
      tcp = response.socket;
    });
    ws.once("unexpected-response", (_request, response: IncomingMessage) => {
      refusal(response).then(fail, fail);
    });
    ws.once("open", () => {
      settled();
      // Made here, not behind the await: on Node what came in one packet with the answer to the
      // upgrade is emitted before any promise goes on, and would find no listener.
      resolve(createPeer({ ...options, role: "daemon", socket: wsSocket(ws, tcp) }));
    });
  });
}

/** No proxy can read the bytes: TLS, or this very machine. */
function unseen(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === "wss:" || hostname === "127.0.0.1" || hostname === "[::1]";
}

function refusal(response: IncomingMessage): Promise<DecoError> {
  const body = webStream(response, {
    onCancel: () => response.destroy(),
    failure: (error) => error ?? new Error("the answer broke off"),
  });
  const headers = headersOf(response.rawHeaders);
  return answerError({ status: response.statusCode ?? 0, headers, body }, "hub_unreachable");
}

function unreachable({ url }: DialOptions, error?: Error): DecoError {
  const why = error?.message ?? "the connection closed";
  return new DecoError("hub_unreachable", `${new URL(url).origin}: ${why}`, { cause: error });
}
