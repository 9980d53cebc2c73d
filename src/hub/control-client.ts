import { answerError } from "../net/answer-error.ts";
import { readSse } from "../net/sse-read.ts";
import { readAll } from "../net/web-stream.ts";
import { DecoError } from "../protocol/errors.ts";
import { checkResponse, signRequest } from "../protocol/signature.ts";
import type { SseFrame } from "../protocol/sse.ts";
import { TAR_TYPE } from "../protocol/tar-rules.ts";
import { deadline } from "./deadline.ts";

/** An answer whose body is still on its way. */
export interface RouteAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: ReadableStream<Uint8Array>;
}

/** A way to a daemon: a tunnel, or a loopback URL. */
export interface LinkRoute {
  readonly linkId: string;
  readonly epoch: number;
  /** Aborts when the way is gone. */
  readonly signal: AbortSignal;
  request(o: {
    method: string;
    path: string;
    headers: Record<string, string>;
    body?: Uint8Array | ReadableStream<Uint8Array>;
    signal: AbortSignal;
  }): Promise<RouteAnswer>;
  close(reason: "superseded" | "revoked" | "replaced" | "gone"): void;
}

/** The hub's side of the control plane of one link and epoch. */
export interface ControlClient {
  /**
   * One request with a checked answer.
   *
   * @throws DecoError the daemon's code for an answer over 399; `answer_unsigned`, `timeout`, `tunnel_lost`.
   */
  call(o: {
    method: string;
    path: string;
    body?: string;
    signal: AbortSignal;
    timeoutMs?: number;
  }): Promise<{
    status: number;
    body: unknown;
  }>;
  /**
   * A tar into a sandbox: the request's body streams, the answer is checked.
   *
   * @throws DecoError as `call` does
   */
  upload(path: string, tar: ReadableStream<Uint8Array>, signal: AbortSignal): Promise<unknown>;
  /**
   * Files out of a sandbox: the answer's head, and its body as it comes, which nobody signed.
   *
   * @throws DecoError as `call` does, before the first byte
   */
  download(path: string, signal: AbortSignal): Promise<RouteAnswer>;
  /** The frames of an event stream. @throws DecoError as `call` does, before the first frame. */
  events(path: string, signal: AbortSignal): AsyncGenerator<SseFrame, void, undefined>;
}

const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const CALL_TIMEOUT_MS = 15_000;

export interface ControlClientOptions {
  readonly route: LinkRoute;
  /** The 32 bytes of this epoch. */
  readonly key: Uint8Array;
  readonly now: () => number;
}

/** @see PROTOCOL.md, section "Signature" */
export function controlClient({ route, key, now }: ControlClientOptions): ControlClient {
  async function send(
    method: string,
    target: string,
    content: string | ReadableStream<Uint8Array> | undefined,
    signal: AbortSignal,
  ) {
    const [path = "", query] = target.split("?", 2);
    const { body, toSign, type } = encoded(content);
    const { linkId, epoch } = route;
    const signed = signRequest({
      key,
      linkId,
      epoch,
      method,
      path,
      query: query === undefined ? "" : `?${query}`,
      now: now(),
      ...(toSign === undefined ? {} : { body: toSign }),
    });
    const request = { method, path: target, headers: { ...signed, ...type }, signal };
    const answer = await route.request(body === undefined ? request : { ...request, body });
    return { answer, requestSignature: signed["signature"] ?? "" };
  }

  async function checked(answer: RouteAnswer, requestSignature: string): Promise<Uint8Array> {
    const { status } = answer;
    const body = await readAll(answer.body, MAX_ANSWER_BYTES);
    const headers = (name: string) => answer.headers.get(name) ?? undefined;
    checkResponse({ key, status, body, headers, requestSignature });
    return body;
  }

  async function failure(answer: RouteAnswer, requestSignature: string): Promise<DecoError> {
    const body = await checked(answer, requestSignature);
    return answerError({ ...answer, body: new Blob([new Uint8Array(body)]).stream() });
  }

  return {
    ...fileCalls(route.signal, { send, checked, failure }),
    async call({ method, path, body: text, signal, timeoutMs = CALL_TIMEOUT_MS }) {
      using limit = deadline([signal, route.signal], timeoutMs);
      try {
        const { answer, requestSignature } = await send(method, path, text, limit.signal);
        if (answer.status > 399) throw await failure(answer, requestSignature);
        const bytes = await checked(answer, requestSignature);
        return { status: answer.status, body: parseBody(bytes) };
      } catch (error) {
        throw asDecoError(error, limit.signal);
      }
    },
    async *events(path, signal) {
      using limit = deadline([signal, route.signal]);
      try {
        const { answer, requestSignature } = await send("GET", path, undefined, limit.signal);
        if (answer.status > 399) throw await failure(answer, requestSignature);
        yield* readSse(answer);
      } catch (error) {
        throw asDecoError(error, limit.signal);
      }
    },
  };
}

function encoded(content: string | ReadableStream<Uint8Array> | undefined) {
  if (content === undefined) return {};
  if (content instanceof ReadableStream) {
    return {
      body: content,
      toSign: "stream",
      type: { "content-type": TAR_TYPE },
    } as const;
  }
  const body = new TextEncoder().encode(content);
  return { body, toSign: body, type: { "content-type": "application/json" } };
}

interface SignedCalls {
  send(
    method: string,
    target: string,
    content: ReadableStream<Uint8Array> | undefined,
    signal: AbortSignal,
  ): Promise<{ answer: RouteAnswer; requestSignature: string }>;
  checked(answer: RouteAnswer, requestSignature: string): Promise<Uint8Array>;
  failure(answer: RouteAnswer, requestSignature: string): Promise<DecoError>;
}

/** Both last as long as they last; the end of the way (`gone`) ends them. */
function fileCalls(gone: AbortSignal, io: SignedCalls): Pick<ControlClient, "upload" | "download"> {
  return {
    async upload(path, tar, signal) {
      using limit = deadline([signal, gone]);
      try {
        const { answer, requestSignature } = await io.send("PUT", path, tar, limit.signal);
        if (answer.status > 399) throw await io.failure(answer, requestSignature);
        return parseBody(await io.checked(answer, requestSignature));
      } catch (error) {
        throw asDecoError(error, limit.signal);
      }
    },
    async download(path, signal) {
      // Its body outlives this call: the way's end ends it, too.
      const both = AbortSignal.any([signal, gone]);
      try {
        const { answer, requestSignature } = await io.send("GET", path, undefined, both);
        if (answer.status > 399) throw await io.failure(answer, requestSignature);
        return answer;
      } catch (error) {
        throw asDecoError(error, both);
      }
    },
  };
}

function parseBody(bytes: Uint8Array): unknown {
  if (bytes.length === 0) return undefined;
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as unknown;
  } catch (cause) {
    throw new DecoError("invalid_json", "the daemon answered no JSON", { cause });
  }
}

/** Transport failures have no code of their own: to the hub they are all a lost tunnel. */
function asDecoError(error: unknown, signal: AbortSignal): DecoError {
  if (error instanceof DecoError) return error;
  if (signal.aborted && signal.reason instanceof DecoError) return signal.reason;
  return DecoError.from(error, "tunnel_lost");
}
