import { type IncomingMessage, request as requestHttp } from "node:http";
import { type Duplex, Readable } from "node:stream";
import { DecoError } from "../protocol/errors.ts";
import { requestHeaders, unreachable } from "./harness-request.ts";
import type { HarnessEndpoint } from "./provider.ts";
import { checkSocket } from "./socket-check.ts";

/** `socket` is there after a 101 only; `body` otherwise. */
export interface UpgradeAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly socket?: Duplex;
  readonly body?: ReadableStream<Uint8Array>;
}

interface UpgradeRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Headers;
}

const DEADLINE_MS = 15_000;

/**
 * Sends an upgrade (WebSocket) to harnessd and gives back the raw socket.
 *
 * @throws harness_unreachable
 */
export async function upgradeHarness(
  endpoint: HarnessEndpoint,
  request: UpgradeRequest,
  signal: AbortSignal,
): Promise<UpgradeAnswer> {
  signal.throwIfAborted();
  const headers = Object.fromEntries(requestHeaders(endpoint, request));
  headers["connection"] = "Upgrade";
  headers["upgrade"] ??= "websocket";
  const rest = { method: request.method, path: request.path, headers, agent: false as const };
  try {
    if (endpoint.socketPath === undefined) {
      const { hostname, port } = new URL(endpoint.url ?? "http://localhost");
      return await exchange({ ...rest, host: hostname, port }, signal);
    }
    await using socket = await checkSocket(endpoint.socketPath, endpoint.socketUid);
    return await exchange({ ...rest, socketPath: socket.socketPath }, signal);
  } catch (thrown) {
    signal.throwIfAborted();
    throw unreachable(thrown, request.path);
  }
}

function exchange(
  options: Parameters<typeof requestHttp>[1] & object,
  signal: AbortSignal,
): Promise<UpgradeAnswer> {
  return new Promise((resolve, reject) => {
    const request = requestHttp(options);
    const timer = setTimeout(() => {
      request.destroy(new DecoError("harness_unreachable", "no answer to the upgrade"));
    }, DEADLINE_MS);
    const onAbort = () => request.destroy(new Error("aborted"));
    signal.addEventListener("abort", onAbort, { once: true });
    const settle = (act: () => void) => {
      clearTimeout(timer);
      act();
    };
    request.once("upgrade", (message, socket, head) => {
      signal.removeEventListener("abort", onAbort);
      signal.addEventListener("abort", () => socket.destroy(), { once: true });
      if (head.length > 0) socket.unshift(head);
      settle(() => resolve({ ...headOf(message), socket }));
    });
    request.once("response", (message) => {
      const body = Readable.toWeb(message) as ReadableStream<Uint8Array>;
      settle(() => resolve({ ...headOf(message), body }));
    });
    request.on("error", (error) => settle(() => reject(error)));
    request.end();
  });
}

function headOf(message: IncomingMessage): { status: number; headers: Headers } {
  const headers = new Headers();
  for (let i = 0; i + 1 < message.rawHeaders.length; i += 2) {
    headers.append(message.rawHeaders[i] ?? "", message.rawHeaders[i + 1] ?? "");
  }
  return { status: message.statusCode ?? 0, headers };
}
