import type { Duplex } from "node:stream";
import { DecoError } from "../protocol/errors.ts";
import type { RequestHead } from "../protocol/frames.ts";
import type { MuxStream } from "../protocol/mux-stream.ts";
import { inboundBody, Outbound, streamError } from "./tunnel-body.ts";
import { type RawStream, rawStream } from "./tunnel-duplex.ts";
import { headersFrom, passingHeaders } from "./tunnel-headers.ts";

/** Answers an upgrade with 101; from then on the stream is raw bytes both ways. */
export type TunnelUpgradeAnswer = (head: {
  readonly status?: 101;
  readonly headers: Headers | Readonly<Record<string, string>>;
}) => Duplex;

/**
 * Answers what comes through the tunnel, in process. `raw.upgrade` is there when the peer asked for
 * an upgrade; after it was called the returned Response is ignored. `request.signal` aborts when the
 * peer gives the request up or the tunnel breaks.
 */
export type TunnelHandler = (
  request: Request,
  raw: {
    /** The path with its query as it came through the tunnel. */
    readonly target?: string;
    readonly upgrade?: TunnelUpgradeAnswer;
  },
) => Response | Promise<Response>;

/** Serves one stream that the peer opened. */
export function serveStream(
  stream: MuxStream,
  head: RequestHead,
  ended: boolean,
  handler: TunnelHandler,
): void {
  const abort = new AbortController();
  const outbound = new Outbound();
  let raw: RawStream | undefined;
  const inbound = inboundBody(
    () => stream,
    () => stream.discard(),
  );
  const request = requestOr(() => requestOf(head, ended ? undefined : inbound.body, abort.signal));
  if (!request) {
    stream.reset("invalid_request");
    return;
  }
  stream.listen({
    onData: (bytes) => (raw ?? inbound).push(bytes),
    onEnd: () => (raw ?? inbound).end(),
    onReset(failure) {
      const error = streamError(failure);
      outbound.stop();
      inbound.fail(error);
      raw?.fail(failure);
      abort.abort(error);
      // Its signal follows ours only as long as the request itself lives (undici holds it weakly).
      held.delete(request);
    },
    onDrain: () => (raw ? raw.drain() : outbound.onDrain()),
    onEndSent: () => raw?.endSent(),
  });
  held.add(request);
  const upgrade: TunnelUpgradeAnswer = ({ headers }) => {
    stream.respond({ status: 101, headers: passingHeaders(headers, true) }, false);
    raw = rawStream(stream);
    return raw.duplex;
  };
  const answer = async () => {
    const response = await settle(() =>
      handler(request, { target: head.path, ...(head.upgrade ? { upgrade } : {}) }),
    );
    if (raw) return;
    await respond(stream, response, outbound, head);
    stream.discard();
  };
  answer()
    .catch((error: unknown) => stream.reset(DecoError.from(error).code))
    .finally(() => held.delete(request))
    .catch(() => undefined);
}

/** TRACE and CONNECT, for instance, are no requests to the platform. */
function requestOr(make: () => Request): Request | undefined {
  try {
    return make();
  } catch {
    return undefined;
  }
}

const held = new Set<Request>();

async function settle(handler: () => Response | Promise<Response>): Promise<Response> {
  try {
    return await handler();
  } catch (error) {
    const problem = DecoError.from(error).toProblem();
    const headers = { "content-type": "application/problem+json" };
    return new Response(JSON.stringify(problem), { status: problem.status, headers });
  }
}

async function respond(
  stream: MuxStream,
  response: Response,
  outbound: Outbound,
  { method }: RequestHead,
): Promise<void> {
  const { body, status } = response;
  const bare = method === "HEAD" || body === null || status === 204 || status === 304;
  if (stream.closed) {
    await body?.cancel();
    return;
  }
  stream.respond({ status, headers: passingHeaders(response.headers, false) }, bare);
  if (!bare) await outbound.send(stream, body);
  else if (body) await body.cancel();
}

function requestOf(
  { method, path, headers }: RequestHead,
  body: ReadableStream<Uint8Array> | undefined,
  signal: AbortSignal,
): Request {
  const bare = body === undefined || method === "GET" || method === "HEAD";
  return new Request(`http://tunnel${path}`, {
    method,
    headers: headersFrom(headers),
    signal,
    ...(bare ? {} : { body, duplex: "half" }),
  });
}
