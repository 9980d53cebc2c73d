import { type ClientRequest, type IncomingMessage, request as requestHttp } from "node:http";
import type { Duplex } from "node:stream";
import { DecoError, type ErrorCode } from "../protocol/errors.ts";
import { headersOf } from "./http-request.ts";
import { webStream } from "./web-stream.ts";

export interface HttpUpgradeOptions {
  /** http: only; what is upgraded is on this machine. */
  readonly url?: string | undefined;
  readonly socketPath?: string | undefined;
  readonly path?: string | undefined;
  /** With `upgrade` and what belongs to its protocol, such as `sec-websocket-key`. */
  readonly headers: Headers | Readonly<Record<string, string>>;
  /** Gives the wait for the head up, and destroys the socket afterwards. */
  readonly signal: AbortSignal;
  /** Until the head; 10 s. */
  readonly timeoutMs?: number | undefined;
  /** `unavailable` when absent. */
  readonly unreachable?: ErrorCode | undefined;
}

/** The answer to an upgrade: raw bytes both ways in `socket` when the status is 101. */
export interface HttpUpgradeAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly socket?: Duplex;
  readonly body: ReadableStream<Uint8Array>;
}

/**
 * Asks an HTTP server to change the protocol (RFC 9110, section 7.8).
 *
 * @throws {@link DecoError} `options.unreachable`, `timeout`; the signal's reason when it aborts.
 */
export async function httpUpgrade(options: HttpUpgradeOptions): Promise<HttpUpgradeAnswer> {
  const { signal, timeoutMs = 10_000 } = options;
  signal.throwIfAborted();
  const request = open(options);
  const failure = (error: Error | undefined) => broken(options, error);
  return new Promise((resolve, reject) => {
    let socket: Duplex | undefined;
    const timer = setTimeout(() => {
      request.destroy(new DecoError("timeout", `no answer to an upgrade within ${timeoutMs} ms`));
    }, timeoutMs);
    const onAbort = () => {
      reject(signal.reason);
      request.destroy();
      socket?.destroy();
    };
    const over = () => signal.removeEventListener("abort", onAbort);
    signal.addEventListener("abort", onAbort, { once: true });
    request.once("upgrade", (message: IncomingMessage, raw: Duplex, head: Buffer) => {
      clearTimeout(timer);
      socket = raw;
      raw.on("error", () => raw.destroy());
      raw.once("close", over);
      if (head.byteLength > 0) raw.unshift(head);
      resolve({ ...headOf(message), socket: raw, body: emptyBody() });
    });
    request.once("response", (message) => {
      clearTimeout(timer);
      message.once("close", over);
      const body = webStream(message, { onCancel: () => request.destroy(), failure });
      resolve({ ...headOf(message), body });
    });
    request.on("error", (error) => {
      clearTimeout(timer);
      over();
      reject(failure(error));
    });
    request.end();
  });
}

function emptyBody(): ReadableStream<Uint8Array> {
  return new ReadableStream({ start: (controller) => controller.close() });
}

function open({ url, socketPath, path, headers: given }: HttpUpgradeOptions): ClientRequest {
  const target = new URL(url ?? "http://localhost/");
  const headers: Record<string, string> = Object.fromEntries(new Headers(given));
  headers["host"] ??= target.host;
  headers["connection"] = "Upgrade";
  return requestHttp({
    ...(socketPath
      ? { socketPath }
      : { host: target.hostname.replace(/^\[|\]$/g, ""), port: target.port || 80 }),
    path: path ?? `${target.pathname}${target.search}`,
    headers,
    agent: false,
  });
}

function headOf(message: IncomingMessage): { status: number; headers: Headers } {
  return { status: message.statusCode ?? 0, headers: headersOf(message.rawHeaders) };
}

function broken({ url, socketPath, unreachable }: HttpUpgradeOptions, error?: Error): DecoError {
  if (error instanceof DecoError) return error;
  const detail = `${socketPath ?? url}: ${error?.message ?? "the connection broke"}`;
  return new DecoError(unreachable ?? "unavailable", detail, { cause: error });
}
