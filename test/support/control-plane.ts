import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { join } from "node:path";
import { controlApp } from "../../src/daemon/control/app.ts";
import { type SigningSession, signed } from "../../src/daemon/control/signed.ts";
import { createExecutor, type Executor } from "../../src/daemon/executor/run-executor.ts";
import { type Journal, openJournal } from "../../src/daemon/journal.ts";
import { serveLocal, serveSigned } from "../../src/daemon/local-api.ts";
import { silentLog } from "../../src/daemon/log.ts";
import { createModelProxy } from "../../src/daemon/model-proxy/model-proxy.ts";
import { createPrune } from "../../src/daemon/prune.ts";
import type { SandboxRules } from "../../src/daemon/sandbox-rules.ts";
import { createSandboxes } from "../../src/daemon/sandboxes.ts";
import { statusSnapshot } from "../../src/daemon/status.ts";
import { type HttpAnswer, httpRequest } from "../../src/net/http-request.ts";
import { upgradeToTunnel } from "../../src/net/tunnel-accept.ts";
import { dialTunnel } from "../../src/net/tunnel-dial.ts";
import type { TunnelPeer } from "../../src/net/tunnel-peer.ts";
import { readAll } from "../../src/net/web-stream.ts";
import { deferred } from "../../src/protocol/deferred.ts";
import { NonceCache } from "../../src/protocol/nonces.ts";
import { signRequest } from "../../src/protocol/signature.ts";
import { OWNERS } from "../../src/sandbox/owner.ts";
import { testHome } from "./control-home.ts";
import { type PlayedProvider, playedProvider } from "./control-provider.ts";

export interface WireRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | ReadableStream<Uint8Array>;
  readonly signal?: AbortSignal;
}

export type WireAnswer = Pick<HttpAnswer, "status" | "headers" | "body">;
export type Transport = "tcp" | "tunnel" | "socket";

/** The real control plane behind its three doors; only sandboxes are played. */
export interface ControlPlane extends AsyncDisposable {
  readonly session: SigningSession;
  readonly journal: Journal;
  readonly executor: Executor;
  readonly provider: PlayedProvider;
  readonly tunnel: TunnelPeer;
  readonly tcpUrl: string;
  /** Event streams that wait for the journal now. */
  readonly followers: () => number;
  /** Replaces the session, as a new registration does. */
  register(): SigningSession;
  sign(request: WireRequest, change?: Partial<Parameters<typeof signRequest>[0]>): WireRequest;
  send(through: Transport, request: WireRequest): Promise<WireAnswer>;
}

export async function controlPlane(
  options: { maxBodyBytes?: number; rules?: SandboxRules } = {},
): Promise<ControlPlane> {
  const home = await testHome();
  const provider = playedProvider();
  const providers = new Map([[provider.name, provider]]);
  const journal = openJournal({ path: home.paths.journalFile });
  const modelProxy = createModelProxy({ upstreams: {}, log: silentLog });
  const executor = createExecutor({
    journal,
    providers,
    defaultProvider: () => "docker",
    ...(options.rules === undefined ? {} : { rules: options.rules }),
    modelProxy: {
      ...modelProxy,
      openSandbox: async () => ({ [Symbol.asyncDispose]: async () => {} }),
    },
    limits: { maxRuns: 4 },
    instanceId: "test12",
    log: silentLog,
  });
  const sandboxes = createSandboxes({
    providers,
    endRuns: () => Promise.resolve(),
    mayHold: () => true,
    busy: (handle) => executor.isBusy(handle),
    allowHub: (info) => options.rules?.allowHub(info),
    sharesLocal: () => options.rules?.sharesLocal() ?? false,
    heldLocally: (handle) => executor.isBusy(handle, OWNERS.local),
    ensure: (handle, spec, { local, signal }) => {
      const owner = local ? OWNERS.local : OWNERS.hub;
      return executor.sandboxes.ensure({ provider, handle, owner, spec, signal });
    },
    remove: (from, handle, signal) => from.remove(handle, signal),
  });
  let followers = 0;
  const watched: Journal = {
    ...journal,
    async waitFor(...place) {
      followers += 1;
      await journal.waitFor(...place).finally(() => {
        followers -= 1;
      });
    },
  };
  const app = controlApp({
    journal: watched,
    runs: executor,
    sandboxes,
    prune: createPrune({
      providers: () => [provider],
      busy: (handle) => executor.isBusy(handle),
      remove: (from, handle, signal) => from.remove(handle, signal),
    }),
    status: snapshot,
    log: silentLog,
  });
  let session = newSession(1);
  const signedApp = signed({ app, session: () => session, now: Date.now, ...options });
  const tcp = await serveSigned(signedApp, 0);
  const socketPath = join(home.paths.runtime, "t.sock");
  const local = await serveLocal(app, socketPath);
  const relay = await tunnelTo((request, raw) =>
    signedApp.fetch(request, { tunnelUpgrade: raw.upgrade, target: raw.target }),
  );
  const never = new AbortController().signal;
  const doors: Record<Transport, (request: WireRequest) => Promise<WireAnswer>> = {
    tcp: ({ signal = never, ...request }) => httpRequest({ url: tcp.url, ...request, signal }),
    socket: ({ signal = never, ...request }) => httpRequest({ socketPath, ...request, signal }),
    tunnel: ({ signal = never, body, headers = {}, ...request }) =>
      relay.peer.request({
        ...request,
        headers: new Headers(headers),
        signal,
        ...(body === undefined
          ? {}
          : { body: typeof body === "string" ? Buffer.from(body) : body }),
      }),
  };
  return {
    get session() {
      return session;
    },
    journal,
    executor,
    provider,
    tunnel: relay.peer,
    tcpUrl: tcp.url,
    followers: () => followers,
    register() {
      session = newSession(session.epoch + 1);
      return session;
    },
    sign: (request, change) => signedWith(session, request, change),
    send: (through, request) => doors[through](request),
    async [Symbol.asyncDispose]() {
      await relay.close();
      await tcp[Symbol.asyncDispose]();
      await local[Symbol.asyncDispose]();
      await executor.close();
      journal.close();
      await home[Symbol.asyncDispose]();
    },
  };
}

/** The answer's JSON with its status and content type; reads it up. */
export async function read(answer: WireAnswer) {
  const bytes = await readAll(answer.body, 16 * 1024 * 1024);
  const text = new TextDecoder().decode(bytes);
  const type = answer.headers.get("content-type") ?? "";
  const json: Record<string, unknown> = /json/.test(type) ? JSON.parse(text) : {};
  return { status: answer.status, type, text, bytes, json, headers: answer.headers };
}

function signedWith(
  { key, linkId, epoch }: SigningSession,
  request: WireRequest,
  change: Partial<Parameters<typeof signRequest>[0]> = {},
): WireRequest {
  const { pathname, search } = new URL(request.path, "http://localhost");
  const { body } = request;
  const fields = signRequest({
    key,
    linkId,
    epoch,
    method: request.method,
    path: pathname,
    query: search,
    now: Date.now(),
    ...(body === undefined
      ? {}
      : { body: body instanceof ReadableStream ? "stream" : new Uint8Array(Buffer.from(body)) }),
    ...change,
  });
  return { ...request, headers: { ...request.headers, ...fields } };
}

function newSession(epoch: number): SigningSession {
  return {
    linkId: "link_1",
    epoch,
    key: new Uint8Array(randomBytes(32)),
    nonces: new NonceCache({ now: Date.now }),
  };
}

function snapshot() {
  return statusSnapshot({
    version: "0.0.0",
    name: "test",
    machineId: "m",
    hub: "http://127.0.0.1:1",
    providerReason: "played",
    capabilities: [],
    socket: "s",
    link: { type: "online", since: 0, linkId: "link_1", epoch: 1 },
    draining: false,
    startedAtMs: 0,
    provider: "docker",
    hasTunnel: true,
    runs: [],
    maxRuns: 4,
  });
}

/** Both ends of a real tunnel over loopback. */
async function tunnelTo(handler: Parameters<typeof dialTunnel>[0]["handler"]) {
  const accepted = deferred<TunnelPeer>();
  const server = createServer();
  server.on("upgrade", (request, socket, head) => {
    upgradeToTunnel(request, socket, head).then(accepted.resolve, accepted.reject);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const signal = new AbortController().signal;
  const dialed = await dialTunnel({ url: `ws://127.0.0.1:${port}/`, headers: {}, handler, signal });
  const peer = await accepted.promise;
  return {
    peer,
    async close() {
      dialed.close();
      await Promise.all([dialed.closed, peer.closed]);
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
