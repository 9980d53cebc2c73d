import { type ClientRequest, type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { DecoError, type ErrorCode } from "../protocol/errors.ts";
import { pumpBody } from "./http-body.ts";
import { readAll, webStream } from "./web-stream.ts";

/** What to ask; either `url`, or `socketPath` (a unix socket) with `path`. */
export interface HttpRequestOptions {
  /** http: or https:; with `socketPath` only its path and host are used. */
  readonly url?: string | undefined;
  readonly socketPath?: string | undefined;
  readonly method?: string | undefined;
  /** Path with query; replaces the URL's. */
  readonly path?: string | undefined;
  readonly headers?: Headers | Readonly<Record<string, string>> | undefined;
  /** A stream is sent as it comes, with back-pressure, chunked unless `content-length` is given. */
  readonly body?: Uint8Array | string | ReadableStream<Uint8Array> | undefined;
  /** Ends the request, or the answer's body, at once. */
  readonly signal: AbortSignal;
  /** Until the connection stands, 10 s when absent. */
  readonly connectTimeoutMs?: number | undefined;
  /** From the connection to the answer's head, none when absent: a long upload is no failure. */
  readonly headersTimeoutMs?: number | undefined;
  /** The code thrown when the peer can't be reached or breaks the connection; `unavailable`. */
  readonly unreachable?: ErrorCode | undefined;
}

/** Status and headers are there; the body is still on its way. Read or cancel it. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** Pauses the connection while nobody reads. Errors when the peer dies before the end. */
  readonly body: ReadableStream<Uint8Array>;
  /** @throws {@link DecoError} `body_too_large` above `limit` bytes (16 MiB). */
  bytes(limit?: number): Promise<Uint8Array>;
  text(limit?: number): Promise<string>;
  /** @throws {@link DecoError} `invalid_json` when the body is not JSON. */
  json(limit?: number): Promise<unknown>;
}

const CONNECT_TIMEOUT_MS = 10_000;
const BODY_LIMIT_BYTES = 16 * 1024 * 1024;

/**
 * One HTTP/1.1 request on its own connection, over TCP, TLS (default CAs) or a unix socket. Never
 * follows a redirect, never decompresses, has no idle time-out (`fetch` kills streams after 300 s).
 *
 * @throws {@link DecoError} `options.unreachable` when the connection fails, `timeout` when a limit
 *   passes; the signal's reason when it aborts.
 */
export async function httpRequest(options: HttpRequestOptions): Promise<HttpAnswer> {
  options.signal.throwIfAborted();
  const request = openRequest(options);
  const onAbort = () => request.destroy(abortError(options.signal));
  options.signal.addEventListener("abort", onAbort, { once: true });
  request.once("close", () => options.signal.removeEventListener("abort", onAbort));
  const message = await answerHead(request, options);
  message.once("end", () => request.destroy()); // what is left of an upload has no reader any more
  return answerOf(message, request, options);
}

function openRequest(options: HttpRequestOptions): ClientRequest {
  const url = new URL(options.url ?? "http://localhost/");
  const headers: Record<string, string> = Object.fromEntries(new Headers(options.headers));
  const { body } = options;
  const fixed = body === undefined || body instanceof ReadableStream ? undefined : body;
  if (fixed !== undefined) headers["content-length"] = String(Buffer.byteLength(fixed));
  headers["host"] ??= url.host;
  // Told to close, a server that answers early would reset the connection under its own answer.
  if (body instanceof ReadableStream) headers["connection"] ??= "keep-alive";
  const open = url.protocol === "https:" && !options.socketPath ? requestHttps : requestHttp;
  return open({
    ...(options.socketPath ? { socketPath: options.socketPath } : address(url)),
    method: options.method ?? "GET",
    path: options.path ?? `${url.pathname}${url.search}`,
    headers,
    agent: false,
  });
}

function address(url: URL): { host: string; port?: string } {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return url.port === "" ? { host } : { host, port: url.port };
}

/** Sends the body and waits for the head, whichever comes first: a peer may answer early. */
function answerHead(request: ClientRequest, options: HttpRequestOptions): Promise<IncomingMessage> {
  const { signal } = options;
  return new Promise<IncomingMessage>((resolve, reject) => {
    const timers = headTimers(request, options);
    const settle = () => timers.stop();
    request.once("response", (message) => {
      settle();
      resolve(message);
    });
    request.once("close", () => {
      settle();
      reject(failure(new Error("the peer closed the connection without an answer"), options));
    });
    // Stays for the request's life: an error after the head shows up in the answer's body.
    request.on("error", (error) => {
      settle();
      reject(signal.aborted ? abortError(signal) : failure(error, options));
    });
    sendBody(request, options);
  });
}

function sendBody(request: ClientRequest, { body, signal }: HttpRequestOptions): void {
  if (!(body instanceof ReadableStream)) {
    request.end(body);
    return;
  }
  pumpBody(body, request, signal).catch((error: unknown) => {
    request.destroy(error instanceof Error ? error : new Error(String(error)));
  });
}

function headTimers(request: ClientRequest, options: HttpRequestOptions): { stop(): void } {
  const expire = (what: string, ms: number) => () =>
    request.destroy(new DecoError("timeout", `no ${what} within ${ms} ms from ${peer(options)}`));
  const connectMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
  let timer = setTimeout(expire("connection", connectMs), connectMs);
  let stopped = false;
  const connected = () => {
    clearTimeout(timer);
    const ms = options.headersTimeoutMs;
    if (!stopped && ms !== undefined) timer = setTimeout(expire("answer", ms), ms);
  };
  request.once("socket", (socket) => {
    socket.setNoDelay(true);
    if (socket.connecting) socket.once("connect", connected);
    else connected();
  });
  return {
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

function answerOf(
  message: IncomingMessage,
  request: ClientRequest,
  options: HttpRequestOptions,
): HttpAnswer {
  const { signal } = options;
  const body = webStream(message, {
    onCancel: () => request.destroy(),
    failure: (error) => (signal.aborted ? abortError(signal) : failure(error, options)),
  });
  const bytes = (limit = BODY_LIMIT_BYTES) => readAll(body, limit);
  const text = async (limit?: number) => new TextDecoder().decode(await bytes(limit));
  return {
    status: message.statusCode ?? 0,
    headers: headersOf(message.rawHeaders),
    body,
    bytes,
    text,
    async json(limit) {
      const source = await text(limit);
      try {
        return JSON.parse(source) as unknown;
      } catch (error) {
        throw new DecoError("invalid_json", `${peer(options)} answered no JSON`, { cause: error });
      }
    },
  };
}

/** Headers from node's flat list; repeated ones (set-cookie) are kept. */
export function headersOf(rawHeaders: readonly string[]): Headers {
  const headers = new Headers();
  for (let i = 0; i + 1 < rawHeaders.length; i += 2)
    headers.append(rawHeaders[i] ?? "", rawHeaders[i + 1] ?? "");
  return headers;
}

function failure(error: Error | undefined, options: HttpRequestOptions): DecoError {
  if (error instanceof DecoError) return error;
  const why = error?.message || "the connection broke";
  const detail = `${peer(options)}: ${why}`;
  return new DecoError(options.unreachable ?? "unavailable", detail, { cause: error });
}

function peer({ url, socketPath }: HttpRequestOptions): string {
  if (socketPath) return socketPath;
  return new URL(url ?? "http://localhost/").origin;
}

function abortError(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason));
}
