import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { readAll } from "../../net/web-stream.ts";
import { DecoError } from "../../protocol/errors.ts";
import { HOP_BY_HOP } from "../../protocol/hop-by-hop.ts";
import { type HarnessClient, harnessClient } from "../../sandbox/harness-client.ts";
import type { HarnessEndpoint } from "../../sandbox/provider.ts";
import type { ControlEnv } from "./control-env.ts";

export interface PortProxyOptions {
  readonly endpoint: HarnessEndpoint;
  readonly handle: string;
  readonly port: number;
  readonly request: Request;
  readonly env: ControlEnv;
}

/** What belongs to one connection, and what is between hub and daemon only. */
const NOT_PASSED_ON: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  "host",
  "signature",
  "signature-input",
  "content-digest",
  "x-link-secret",
]);

/** Set by harnessd on its own refusals, and on nothing that a server inside answers. */
const REFUSAL = "x-harnessd-refusal";
const REFUSAL_BYTES = 16 * 1024;

/**
 * Passes a request on to a server inside the sandbox and its answer back, as streams.
 *
 * @throws DecoError `port_unreachable` when nothing listens there.
 */
export async function proxyToPort(options: PortProxyOptions): Promise<Response> {
  const { endpoint, request, env, port } = options;
  const client = harnessClient(endpoint);
  const headers = passedOn(request.headers);
  const call = { port, method: request.method, path: innerPath(options), headers };
  if (env.tunnelUpgrade) return upgrade(client, call, options);
  const body = request.body ?? undefined;
  const answer = await client.proxy(
    { ...call, ...(body === undefined ? {} : { body }) },
    request.signal,
  );
  if (answer.headers.has(REFUSAL)) throw await refused(answer.body, port);
  env.markStream?.();
  const empty = [101, 204, 205, 304].includes(answer.status) || request.method === "HEAD";
  if (empty) await answer.body.cancel();
  return new Response(empty ? null : answer.body, {
    status: answer.status,
    headers: passedOn(answer.headers),
  });
}

interface UpgradeCall {
  readonly port: number;
  readonly method: string;
  readonly path: string;
  readonly headers: Headers;
}

async function upgrade(
  client: HarnessClient,
  call: UpgradeCall,
  { request, env }: PortProxyOptions,
): Promise<Response> {
  call.headers.set("upgrade", request.headers.get("upgrade") ?? "websocket");
  const answer = await client.upgrade(call, request.signal);
  if (answer.headers.has(REFUSAL)) throw await refused(answer.body, call.port);
  env.markStream?.();
  if (answer.socket === undefined || env.tunnelUpgrade === undefined) {
    const headers = passedOn(answer.headers);
    return new Response(answer.body ?? null, { status: answer.status, headers });
  }
  const headers = passedOn(answer.headers);
  headers.set("connection", "Upgrade");
  headers.set("upgrade", answer.headers.get("upgrade") ?? "websocket");
  join(answer.socket, env.tunnelUpgrade({ headers }));
  // The head went out above; transports take this one for "done".
  return new Response(null, { status: 200, headers: { "deco-upgraded": "1" } });
}

/** harnessd's own words as one of our errors, which is then signed like any other. */
async function refused(
  body: ReadableStream<Uint8Array> | undefined,
  port: number,
): Promise<DecoError> {
  await (body === undefined ? undefined : readAll(body, REFUSAL_BYTES).catch(() => undefined));
  return new DecoError("port_unreachable", `nothing listens on port ${port} in the sandbox`);
}

/** Bytes both ways; the end of one side is the end of both. */
function join(inner: Duplex, outer: Duplex): void {
  const end = () => {
    inner.destroy();
    outer.destroy();
  };
  // Two pipelines on one stream pass Node's default of 10 listeners without leaking any.
  for (const side of [inner, outer]) side.setMaxListeners(32);
  pipeline(inner, outer).then(end, end);
  pipeline(outer, inner).then(end, end);
}

function passedOn(headers: Headers): Headers {
  const result = new Headers();
  const named = new Set(
    (headers.get("connection") ?? "").split(",").map((name) => name.trim().toLowerCase()),
  );
  for (const [name, value] of headers) {
    if (NOT_PASSED_ON.has(name) || name.startsWith("deco-") || named.has(name)) continue;
    result.append(name, value);
  }
  return result;
}

/** The path behind `/ports/{port}`, byte for byte as it came. */
function innerPath({ request, handle, port, env }: PortProxyOptions): string {
  const prefix = `/v1/sandboxes/${handle}/ports/${port}`;
  if (env.target?.startsWith(`${prefix}/`)) return env.target.slice(prefix.length);
  const { pathname, search } = new URL(request.url);
  const rest = pathname.startsWith(prefix) ? pathname.slice(prefix.length) : "/";
  return `${rest === "" ? "/" : rest}${search}`;
}
