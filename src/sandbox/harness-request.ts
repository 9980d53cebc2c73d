import { type HttpAnswer, httpRequest } from "../net/http-request.ts";
import { DecoError } from "../protocol/errors.ts";
import type { HarnessEndpoint } from "./provider.ts";
import { checkSocket } from "./socket-check.ts";

export interface HarnessRequest {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Headers;
  /** A plain object is sent as JSON. */
  readonly body?: object | Uint8Array | ReadableStream<Uint8Array>;
  /** Milliseconds until the whole answer must be there; 0 for streams. */
  readonly deadlineMs?: number;
}

const DEADLINE_MS = 15_000;

/**
 * One request to harnessd, with its token, over its socket or its loopback port.
 *
 * @throws harness_unreachable
 */
export async function harnessRequest(
  endpoint: HarnessEndpoint,
  request: HarnessRequest,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  signal.throwIfAborted();
  const deadlineMs = request.deadlineMs ?? DEADLINE_MS;
  const both = deadlineMs > 0 ? AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]) : signal;
  try {
    return await send(endpoint, request, both);
  } catch (thrown) {
    signal.throwIfAborted();
    throw unreachable(thrown, request.path);
  }
}

async function send(endpoint: HarnessEndpoint, request: HarnessRequest, signal: AbortSignal) {
  const headers = requestHeaders(endpoint, request);
  const body = encodeBody(request.body, headers);
  const rest = {
    method: request.method ?? "GET",
    headers,
    signal,
    // Also of a stream that breaks off later, whose reader decides by this code.
    unreachable: "harness_unreachable" as const,
    ...(body === undefined ? {} : { body }),
  };
  if (endpoint.socketPath === undefined) {
    if (endpoint.url === undefined) throw new Error("the sandbox has no address");
    return await httpRequest({ url: new URL(request.path, endpoint.url).href, ...rest });
  }
  await using socket = await checkSocket(endpoint.socketPath, endpoint.socketUid);
  return await httpRequest({ socketPath: socket.socketPath, path: request.path, ...rest });
}

/** The caller's headers, with ours in the place of any authorization of theirs. */
export function requestHeaders(endpoint: HarnessEndpoint, request: { headers?: Headers }): Headers {
  const headers = new Headers(request.headers);
  // What a server inside gets as its own credentials must survive our bearer token.
  const theirs = headers.get("authorization");
  if (theirs !== null) headers.set("x-forwarded-authorization", theirs);
  headers.set("authorization", `Bearer ${endpoint.token}`);
  return headers;
}

function encodeBody(body: HarnessRequest["body"], headers: Headers) {
  if (body === undefined) return undefined;
  if (body instanceof Uint8Array || body instanceof ReadableStream) return body;
  headers.set("content-type", "application/json");
  return JSON.stringify(body);
}

/** Whatever the network threw, as `harness_unreachable` with its reason. */
export function unreachable(thrown: unknown, path: string): DecoError {
  if (thrown instanceof DecoError && thrown.code === "harness_unreachable") return thrown;
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  return new DecoError("harness_unreachable", `harnessd did not answer ${path}: ${reason}`, {
    cause: thrown,
  });
}
