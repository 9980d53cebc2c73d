import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildHub } from "../../src/hub/main.ts";
import { listen } from "../../src/net/listen.ts";
import { checkResponse, signRequest } from "../../src/protocol/signature.ts";
import { read, type WireRequest } from "./control-plane.ts";
import { newHome } from "./e2e-lab.ts";
import { until } from "./hub-fixture.ts";
import { type RunningDeco, startDeco } from "./run-deco.ts";

type SignChange = Partial<Parameters<typeof signRequest>[0]>;
export type WireAnswer = Awaited<ReturnType<typeof read>>;

/** The real hub with its relay's end of the tunnel open to the test, and a real daemon behind it. */
export interface Wire extends AsyncDisposable {
  readonly home: string;
  readonly url: string;
  readonly token: string;
  /** The daemon; replaced by `restart`. */
  readonly daemon: () => RunningDeco;
  readonly session: () => WireSession;
  /** Any bytes, as they are, through the tunnel. */
  send(request: WireRequest): Promise<WireAnswer>;
  /** With the session's signature, or with a wrong one by `change`. */
  sign(request: WireRequest, change?: SignChange): WireRequest;
  /** Signed, sent, and the answer's own signature checked. */
  call(request: WireRequest): Promise<WireAnswer>;
  restart(): Promise<void>;
}

export interface WireSession {
  readonly linkId: string;
  readonly epoch: number;
  readonly key: Uint8Array;
}

const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined };
const TIMEOUT_MS = 60_000;

export async function startWire(env: Readonly<Record<string, string>> = {}): Promise<Wire> {
  const home = await newHome();
  const dataDir = await mkdtemp(join(tmpdir(), "deco-wire-"));
  const hub = buildHub({ port: 0, dataDir, log: quiet });
  const { keys, store, dispatcher } = hub.context;
  const server = await listen(hub.app, { port: 0, onUpgrade: hub.relay.onUpgrade });
  const token = await keys.userToken({ user: "ada", ttlSeconds: 3600 });
  const session = () => {
    const [link] = store.links.ofUser("ada");
    if (link === undefined) throw new Error("nobody is linked");
    const { linkId, epoch, kid, jti } = link;
    return { linkId, epoch, key: keys.signingKey({ kid, jti, linkId, epoch }) };
  };
  const start = async () => {
    const args = ["link", "--hub", server.url, "--json"];
    const daemon = await startDeco(args, {
      home,
      env: { DECO_TOKEN: token, ...env },
      timeoutMs: 600_000,
    });
    await daemon.until(/"link\.online"/);
    await until(() => hub.reach.get(session().linkId) !== undefined);
    return daemon;
  };
  let daemon = await start();
  const send = async ({ method, path, headers = {}, body }: WireRequest) => {
    if (body instanceof ReadableStream) throw new TypeError("whole bodies only");
    const way = hub.reach.get(session().linkId);
    if (way === undefined) throw new Error("the link is out of reach");
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const bytes = body === undefined ? {} : { body: new Uint8Array(Buffer.from(body)) };
    return read(
      await way.route.request({ method, path, headers: { ...headers }, signal, ...bytes }),
    );
  };
  const sign = (request: WireRequest, change: SignChange = {}) =>
    signedBy(session(), request, change);
  return {
    home,
    url: server.url,
    token,
    daemon: () => daemon,
    session,
    send,
    sign,
    async call(request) {
      const signed = sign(request);
      const answer = await send(signed);
      checkAnswer(session().key, signed, answer);
      return answer;
    },
    async restart() {
      await daemon[Symbol.asyncDispose]();
      daemon = await start();
    },
    async [Symbol.asyncDispose]() {
      await daemon[Symbol.asyncDispose]();
      hub.closing.abort();
      hub.relay.close();
      hub.urlLinks.close();
      await dispatcher.workers.close();
      await server[Symbol.asyncDispose]();
      store.close();
      await rm(home, { recursive: true, force: true });
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

function signedBy(
  { linkId, epoch, key }: WireSession,
  request: WireRequest,
  change: SignChange,
): WireRequest {
  const [path = "", query] = request.path.split("?", 2);
  const { method, body } = request;
  if (body instanceof ReadableStream) throw new TypeError("whole bodies only");
  const fields = signRequest({
    key,
    linkId,
    epoch,
    method,
    path,
    query: query === undefined ? "" : `?${query}`,
    now: Date.now(),
    ...(body === undefined ? {} : { body: new Uint8Array(Buffer.from(body)) }),
    ...change,
  });
  return { ...request, headers: { ...request.headers, ...fields } };
}

/** @throws DecoError `answer_unsigned` */
export function checkAnswer(key: Uint8Array, request: WireRequest, answer: WireAnswer): void {
  checkResponse({
    key,
    status: answer.status,
    body: answer.bytes,
    requestSignature: request.headers?.["signature"] ?? "",
    headers: (name) => answer.headers.get(name) ?? undefined,
  });
}
