import manifest from "../../package.json" with { type: "json" };
import { type Listening, listen } from "../net/listen.ts";
import { hubApp, type Page } from "./app.ts";
import { auth } from "./auth.ts";
import { hubEnvironment } from "./config.ts";
import { deviceFlow } from "./device-flow.ts";
import { Dispatcher } from "./dispatcher.ts";
import { guard as makeGuard } from "./guard.ts";
import type { HubContext } from "./hub-context.ts";
import type { HubLog } from "./hub-log.ts";
import { openHubKeys } from "./keys.ts";
import { presence as makePresence } from "./presence.ts";
import { Reach } from "./reach.ts";
import { Registry } from "./registry.ts";
import { Relay } from "./relay.ts";
import { RunLog } from "./run-log.ts";
import { openStore } from "./store/open-store.ts";
import { UrlLinks } from "./url-links.ts";
import { Wakeups } from "./wakeups.ts";

const HUB_VERSION: string = manifest.version;

export interface HubOptions {
  readonly host?: string;
  /** 0 = any free one. */
  readonly port: number;
  /** Made when absent; holds keys.json and hub.db. */
  readonly dataDir: string;
  /** What users and daemons dial, where that is not this address. */
  readonly publicUrl?: string;
  readonly page?: Page;
  /** Shown to a browser whose sign-in code is used up. */
  readonly signInFailedPage?: () => string;
  /** `DECO_ALLOW_LOCALHOST_LINKS=1` when absent. */
  readonly allowLocalhostLinks?: boolean;
  readonly log: HubLog;
  readonly now?: () => number;
  readonly random?: () => number;
  readonly heartbeatIntervalMs?: number;
  readonly ttlMs?: number;
  /** For tests: see {@link Dispatcher}, {@link deviceFlow}, event streams, tunnels. */
  readonly acceptTimeoutMs?: number;
  readonly deviceIntervalMs?: number;
  readonly pingMs?: number;
  readonly tunnelHeartbeatMs?: number;
}

export interface RunningHub extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  userToken(o: { user: string; ttlSeconds: number }): Promise<string>;
  /** Good once and for 60 s. */
  loginCode(user: string): string;
  close(): Promise<void>;
}

/**
 * Opens the store, then the port. Nothing is lost by stopping it at any moment.
 *
 * @throws DecoError port_in_use, storage_failed
 */
export async function startHub(options: HubOptions): Promise<RunningHub> {
  const hub = buildHub(options);
  let listening: Listening;
  try {
    const { host = "127.0.0.1", port } = options;
    listening = await listen(hub.app, { host, port, onUpgrade: hub.relay.onUpgrade });
  } catch (error) {
    hub.context.store.close();
    throw error;
  }
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= stop(hub, listening);
    return closed;
  };
  return {
    url: listening.url,
    port: listening.port,
    userToken: (o) => hub.context.keys.userToken(o),
    loginCode: (user) => hub.context.keys.loginCode(user),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Everything but the port: nothing runs until a request or a link comes. */
export function buildHub(options: HubOptions) {
  const base = buildBase(options);
  const links = buildLinks(options, base);
  const closing = new AbortController();
  const context = buildContext(options, base, links, closing.signal);
  const app = hubApp(context, { log: options.log, page: options.page });
  return { ...links, context, app, closing };
}

function buildBase({ dataDir, publicUrl, now = Date.now }: HubOptions) {
  const keys = openHubKeys(dataDir, now);
  const store = openStore(dataDir);
  const runLog = new RunLog({ store, wakeups: new Wakeups(), now });
  return { keys, store, runLog, now, guard: makeGuard(publicUrl) };
}

type Base = ReturnType<typeof buildBase>;

function buildLinks(options: HubOptions, { keys, store, runLog, now, guard }: Base) {
  const { log, random = Math.random, ttlMs = 30_000, acceptTimeoutMs } = options;
  const reach: Reach = new Reach({
    keyOf: (linkId, epoch) => {
      const { kid = "", jti = "" } = store.links.get(linkId) ?? {};
      return keys.signingKey({ kid, jti, linkId, epoch });
    },
    now,
    onUp: (linkId) => dispatcher.workers.startLink(linkId),
    onDown: (linkId) => log.info({ linkId }, "link out of reach, its runs wait"),
  });
  const presence = makePresence({ store, reach, now, ttlMs });
  const dispatcher = new Dispatcher({
    store,
    presence,
    reach,
    runLog,
    log,
    now,
    random,
    acceptTimeoutMs,
  });
  const urlLinks = new UrlLinks({ reach, log });
  const registry: Registry = new Registry({
    store,
    keys,
    now,
    hubVersion: HUB_VERSION,
    heartbeatIntervalMs: options.heartbeatIntervalMs ?? 10_000,
    ttlMs,
    allowLocalhostLinks: options.allowLocalhostLinks ?? hubEnvironment().allowLocalhostLinks,
    onEpoch: (link) => {
      relay.dropOlder(link.linkId, link.epoch, "superseded");
      urlLinks.dropOlder(link.linkId, link.epoch);
      urlLinks.look(link);
    },
    onEnded: (linkId, reason) => {
      relay.dropOlder(linkId, Number.POSITIVE_INFINITY, reason);
      urlLinks.dropOlder(linkId, Number.POSITIVE_INFINITY);
      if (reason === "revoked") dispatcher.abandon(linkId);
    },
    onHeartbeat: (link, held) => {
      urlLinks.look(link);
      dispatcher.workers.startLink(link.linkId);
      for (const run of held) dispatcher.workers.startDrain(run, link.linkId);
    },
  });
  const heartbeatMs = options.tunnelHeartbeatMs;
  const relay: Relay = new Relay({ guard, registry, reach, log, heartbeatMs });
  return { reach, presence, dispatcher, urlLinks, registry, relay };
}

function buildContext(
  options: HubOptions,
  { keys, store, runLog, now, guard }: Base,
  { registry, presence, dispatcher }: ReturnType<typeof buildLinks>,
  closing: AbortSignal,
): HubContext {
  const { publicUrl } = options;
  const secure = publicUrl?.startsWith("https:") === true;
  return {
    store,
    keys,
    guard,
    auth: auth({ store, keys, guard, now, secure }),
    registry,
    presence,
    dispatcher,
    runLog,
    deviceFlow: deviceFlow({ store, keys, now, intervalMs: options.deviceIntervalMs }),
    now,
    version: HUB_VERSION,
    pingMs: options.pingMs ?? 15_000,
    closing,
    publicOrigin: (host) =>
      publicUrl === undefined ? `http://${host}` : new URL(publicUrl).origin,
    signInFailedPage: options.signInFailedPage,
  };
}

type Hub = ReturnType<typeof buildHub>;

/** Streams, then tunnels, then workers, then the server, then the file: nothing writes behind it. */
async function stop(hub: Hub, listening: Listening): Promise<void> {
  hub.closing.abort();
  hub.relay.close();
  hub.urlLinks.close();
  await hub.context.dispatcher.workers.close();
  await listening[Symbol.asyncDispose]();
  hub.context.store.close();
}
