import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { refuseUpgrade, upgradeToTunnel } from "../../src/net/tunnel-accept.ts";
import type { TunnelPeer } from "../../src/net/tunnel-peer.ts";
import { deferred } from "../../src/protocol/deferred.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import { Heartbeat, Register, type Registered } from "../../src/protocol/messages.ts";

/** What the far side says next; each function may throw a DecoError, which becomes the answer. */
export interface HubScript {
  register?: (call: { body: Register; token: string | undefined; nth: number }) => object | void;
  heartbeat?: (call: { body: Heartbeat; epoch: number; nth: number }) => object | void;
  tunnel?: (call: { epoch: number; nth: number }) => void;
}

/** The hub's side of a link, played: for faults that a real hub can't be made to have. */
export interface ScriptedHub extends AsyncDisposable {
  readonly url: string;
  script: HubScript;
  readonly registrations: { body: Register; token: string | undefined }[];
  readonly heartbeats: Heartbeat[];
  readonly tunnels: TunnelPeer[];
  /** Epochs that were left by DELETE. */
  readonly left: number[];
  /** The last session that was handed out. */
  readonly session: () => Registered;
  /** Resolves as soon as the condition holds; looked at after each call from the daemon. */
  until(condition: () => boolean): Promise<void>;
}

export async function scriptedHub(
  options: { heartbeatIntervalMs?: number } = {},
): Promise<ScriptedHub> {
  const waiting = new Set<() => void>();
  const changed = () => {
    for (const look of waiting) look();
  };
  let session: Registered | undefined;
  const hub: Omit<ScriptedHub, "url" | typeof Symbol.asyncDispose> = {
    script: {},
    registrations: [],
    heartbeats: [],
    tunnels: [],
    left: [],
    session: () => {
      if (session === undefined) throw new Error("nobody registered yet");
      return session;
    },
    until(condition) {
      const done = deferred();
      const look = () => {
        if (!condition()) return;
        waiting.delete(look);
        done.resolve();
      };
      waiting.add(look);
      look();
      return done.promise;
    },
  };
  const nextSession = (): Registered => ({
    linkId: "link_1",
    epoch: (session?.epoch ?? 0) + 1,
    linkSecret: `secret-${(session?.epoch ?? 0) + 1}`,
    signingKey: randomBytes(32).toString("base64url"),
    heartbeatIntervalMs: options.heartbeatIntervalMs ?? 50,
    ttlMs: 30_000,
    now: new Date().toISOString(),
    hub: { version: "0.0.0", protocol: { min: 1, max: 1 }, features: [] },
  });
  const routes: Record<string, (request: IncomingMessage, body: unknown) => object | undefined> = {
    "POST /api/links": (request, body) => {
      const token = request.headers.authorization?.replace("Bearer ", "");
      const call = { body: Register.parse(body), token };
      const nth = hub.registrations.push(call);
      const extra = hub.script.register?.({ ...call, nth });
      session = { ...nextSession(), ...extra };
      return session;
    },
    "POST /api/links/heartbeat": (request, body) => {
      const beat = Heartbeat.parse(body);
      const nth = hub.heartbeats.push(beat);
      const extra = hub.script.heartbeat?.({ body: beat, epoch: epochOf(request), nth });
      const now = new Date().toISOString();
      return { now, epoch: hub.session().epoch, revoked: false, cancel: [], ...extra };
    },
    "DELETE /api/links/me": (request) => {
      hub.left.push(epochOf(request));
      return undefined;
    },
  };
  const server = createServer((request, response) => {
    void readBody(request)
      .then((body) => routes[`${request.method} ${request.url}`]?.(request, body))
      .then(
        (answer) => send(response, answer === undefined ? 204 : 200, answer),
        (error: unknown) => sendError(response, error),
      )
      .finally(changed);
  });
  let dials = 0;
  server.on("upgrade", (request, socket, head) => {
    dials += 1;
    try {
      hub.script.tunnel?.({ epoch: epochOf(request), nth: dials });
    } catch (error) {
      refuseUpgrade(socket, DecoError.from(error));
      changed();
      return;
    }
    void upgradeToTunnel(request, socket, head)
      .then((peer) => hub.tunnels.push(peer))
      .finally(changed);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(hub, {
    url: `http://127.0.0.1:${portOf(server)}`,
    async [Symbol.asyncDispose]() {
      for (const tunnel of hub.tunnels) tunnel.close(1001, "hub closes");
      await Promise.all(hub.tunnels.map((tunnel) => tunnel.closed));
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}

function epochOf(request: IncomingMessage): number {
  return Number(String(request.headers["x-link-secret"]).replace("secret-", ""));
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  return chunks.length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString("utf8"));
}

function send(response: ServerResponse, status: number, body?: object): void {
  const headers = {
    "content-type": status < 400 ? "application/json" : "application/problem+json",
  };
  response.writeHead(status, headers).end(body === undefined ? undefined : JSON.stringify(body));
}

function sendError(response: ServerResponse, thrown: unknown): void {
  const problem = DecoError.from(thrown).toProblem();
  send(response, problem.status, problem);
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("not listening");
  return address.port;
}
