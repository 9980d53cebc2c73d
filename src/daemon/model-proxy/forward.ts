import type { IncomingMessage, ServerResponse } from "node:http";
import { pumpBody } from "../../net/http-body.ts";
import { type HttpAnswer, headersOf, httpRequest } from "../../net/http-request.ts";
import { webStream } from "../../net/web-stream.ts";
import { DecoError } from "../../protocol/errors.ts";
import type { Admission } from "./grants.ts";
import { answerHeaders, requestHeaders } from "./headers.ts";
import type { ModelRoute } from "./routes.ts";
import { authorization, type ModelUpstream, upstreamUrl } from "./upstreams.ts";
import { UsageMeter } from "./usage-meter.ts";

/** A long answer without streaming is silent for minutes. */
const HEADERS_TIMEOUT_MS = 15 * 60_000;

export interface ForwardOptions {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly route: ModelRoute;
  readonly upstream: ModelUpstream;
  readonly admission: Admission;
  readonly maxBodyBytes: number;
}

/**
 * Forwards one admitted request and streams its answer back, byte for byte. Whichever side goes
 * away takes the other along, and so does the end of the run.
 *
 * @throws DecoError body_too_large, model_failed, timeout
 */
export async function forward(options: ForwardOptions): Promise<void> {
  const { request, response, route, upstream, admission } = options;
  const client = new AbortController();
  response.once("close", () => client.abort(new Error("the client went away")));
  const signal = AbortSignal.any([admission.signal, client.signal]);
  const body = request.method === "POST" ? cappedBody(options) : undefined;
  const answer = await httpRequest({
    url: upstreamUrl(upstream, route.path, route.query),
    method: request.method,
    headers: {
      ...requestHeaders(headersOf(request.rawHeaders), { withBody: body !== undefined }),
      ...authorization(route.upstream, upstream),
    },
    body: body?.stream,
    signal,
    headersTimeoutMs: HEADERS_TIMEOUT_MS,
    unreachable: "model_failed",
  });
  if (answer.status < 200 || (answer.status >= 300 && answer.status < 400)) {
    await answer.body.cancel();
    throw new DecoError("model_failed", `the model's service answered ${answer.status}`);
  }
  const counter = route.metered && answer.status < 300 ? countTokens(answer, options, body) : FREE;
  try {
    await sendAnswer(answer, counter.push, response, signal);
  } finally {
    counter.end();
  }
}

const FREE = { push: () => undefined, end: () => undefined };

/** Counts while the answer comes, so that requests beside it see what it uses up. */
function countTokens(
  { headers }: HttpAnswer,
  { admission }: ForwardOptions,
  body: { sent(): number } | undefined,
) {
  const meter = new UsageMeter({
    contentType: headers.get("content-type") ?? undefined,
    contentEncoding: headers.get("content-encoding") ?? undefined,
  });
  let counted = { inputTokens: 0, outputTokens: 0 };
  const count = () => {
    const used = meter.soFar(body?.sent() ?? 0);
    admission.count({
      inputTokens: used.inputTokens - counted.inputTokens,
      outputTokens: used.outputTokens - counted.outputTokens,
    });
    counted = used;
  };
  return {
    push: (chunk: Uint8Array) => {
      meter.push(chunk);
      count();
    },
    end: () => {
      meter.end();
      count();
    },
  };
}

async function sendAnswer(
  answer: HttpAnswer,
  look: (chunk: Uint8Array) => void,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  response.writeHead(answer.status, answerHeaders(answer.headers));
  response.flushHeaders();
  await pumpBody(answer.body.pipeThrough(tap(look)), response, signal);
}

function cappedBody({ request, maxBodyBytes }: ForwardOptions) {
  let sent = 0;
  const source = webStream(request, {
    // The rest is read and dropped, so that the client gets to read its refusal.
    onCancel: () => request.resume(),
    failure: (cause) => new DecoError("model_failed", "the client broke off", { cause }),
  });
  const stream = source.pipeThrough(
    tap((chunk) => {
      sent += chunk.length;
      if (sent > maxBodyBytes) throw tooLarge(maxBodyBytes);
    }),
  );
  return { stream, sent: () => sent };
}

export function tooLarge(maxBodyBytes: number): DecoError {
  return new DecoError("body_too_large", `a model request is ${maxBodyBytes} bytes at most`, {
    fix: "Shorten the conversation.",
  });
}

function tap(look: (chunk: Uint8Array) => void): TransformStream<Uint8Array, Uint8Array> {
  return new TransformStream({
    transform(chunk, controller) {
      look(chunk);
      controller.enqueue(chunk);
    },
  });
}
