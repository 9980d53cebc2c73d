import type { HttpAnswer, HttpRequestOptions } from "../../../src/net/http-request.ts";
import type { DialOptions } from "../../../src/net/tunnel-dial.ts";
import { readAll } from "../../../src/net/web-stream.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import type { Program, World } from "../core/world.ts";
import { Connection, type Handler, type Kind, type WireAnswer } from "./connection.ts";
import type { Machine } from "./machine.ts";
import { type SimTunnelEnd, Tunnel } from "./tunnel.ts";
import type { Weather } from "./weather.ts";

/** A program that listens. */
export interface Server {
  readonly kind: "hub" | "harness";
  readonly program: Program;
  readonly handler: Handler;
  /** Takes a tunnel's handshake. */
  readonly onTunnel?: (tunnel: Tunnel, headers: Readonly<Record<string, string>>) => void;
}

interface NetOptions {
  readonly world: World;
  readonly weather: Weather;
  /** Who listens at an origin now; undefined: connection refused. */
  readonly serverAt: (origin: string) => Server | undefined;
  /** Tunnels that stand or are being dialled, for faults to cut. */
  readonly tunnels: Set<Connection>;
}

/** How a laptop's programs reach others. */
export function laptopNet(o: NetOptions): Machine["net"] {
  const { world } = o;
  return {
    http: (options) => http(o, options),
    dial: async (options) => {
      const client = world.current;
      const server = o.serverAt(originOf(options.url.replace(/^ws/, "http")));
      if (server?.onTunnel === undefined) throw await refused(world, options.signal);
      const connection = connect(o, client, server.program, "tunnel", "tunnel_lost");
      const tunnel = new Tunnel(connection, options.handler);
      o.tunnels.add(connection);
      void connection.closed.client.then(() => o.tunnels.delete(connection));
      const { headers } = options;
      connection.send("client", () => server.onTunnel?.(tunnel, headers));
      return opened(world, tunnel, options);
    },
  };
}

const DIAL_MS = 10_000;

function opened(world: World, tunnel: Tunnel, { signal }: DialOptions): Promise<SimTunnelEnd> {
  const { connection } = tunnel;
  const fail = (reason: unknown) => {
    tunnel.opened.reject(reason);
    connection.close("client", 1006, "given up");
  };
  const timer = world.timer(() => fail(unreachable("no tunnel within 10 s")), DIAL_MS);
  const onAbort = () => fail(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  const whenClosed = async () => {
    const { reason } = await connection.closed.client;
    signal.removeEventListener("abort", onAbort);
    tunnel.opened.reject(unreachable(reason));
  };
  void whenClosed();
  return tunnel.opened.promise.finally(() => {
    timer.happening.run = undefined;
  });
}

async function http(o: NetOptions, options: HttpRequestOptions): Promise<HttpAnswer> {
  const { world } = o;
  const { signal, method = "GET", url = "", headers, body, unreachable: code } = options;
  const server = o.serverAt(originOf(url));
  if (server === undefined) throw await refused(world, signal, code);
  const lostCode = code ?? "unavailable";
  const connection = connect(o, world.current, server.program, server.kind, lostCode);
  const wire = {
    method,
    url,
    headers: Object.fromEntries(new Headers(headers)),
    signal,
    ...(typeof body === "string" ? { body: Buffer.from(body) } : {}),
  };
  wire.headers["host"] = new URL(url).host;
  try {
    return httpAnswer(await connection.request("client", wire, server.handler));
  } catch (error) {
    signal.throwIfAborted();
    throw new DecoError(code ?? "unavailable", String(error), { cause: error });
  }
}

function httpAnswer({ status, headers, body }: WireAnswer): HttpAnswer {
  const bytes = (limit = 2 ** 24) => readAll(body, limit);
  const text = async (limit?: number) => new TextDecoder().decode(await bytes(limit));
  return {
    status,
    headers,
    body,
    bytes,
    text,
    json: async (limit) => JSON.parse(await text(limit)) as unknown,
  };
}

function connect(
  { world, weather }: NetOptions,
  client: Program,
  server: Program,
  kind: Kind,
  lostCode: DecoError["code"],
): Connection {
  return new Connection({ world, weather, client, server, kind, lostCode });
}

/** Nobody listens there. */
function refused(
  world: World,
  signal: AbortSignal,
  code: DecoError["code"] = "hub_unreachable",
): Promise<DecoError> {
  return new Promise((resolve) => {
    world.timer(() => resolve(new DecoError(code, "connection refused")), 2);
    signal.addEventListener("abort", () => resolve(new DecoError(code, "given up")), {
      once: true,
    });
  });
}

function unreachable(why: string): DecoError {
  return new DecoError("hub_unreachable", why);
}

function originOf(url: string): string {
  return new URL(url).origin;
}
