import { hostname } from "node:os";
import { dialTunnel } from "../net/tunnel-dial.ts";
import type { DecoError } from "../protocol/errors.ts";
import type { HubClock } from "../protocol/hub-clock.ts";
import { fromBase64Url } from "../protocol/keys.ts";
import type { Config } from "./config.ts";
import type { ControlFetch } from "./control/control-env.ts";
import {
  credentialsStamp,
  readUserToken,
  type TokenSources,
  writeLinkRecord,
} from "./credentials.ts";
import { enrol } from "./enrol.ts";
import { type HeartbeatFacts, heartbeats } from "./heartbeat.ts";
import type { HubApi } from "./hub-api.ts";
import type { Identity } from "./identity.ts";
import type { Log } from "./log.ts";
import type { SuperviseOptions } from "./supervise.ts";
import type { LinkSession } from "./supervise-state.ts";
import { VERSION } from "./version.ts";

export interface LinkPartsOptions {
  readonly config: Config;
  readonly hub: HubApi;
  readonly identity: Identity;
  readonly clock: HubClock;
  /** The signed control plane, which answers what comes through the tunnel. */
  readonly app: ControlFetch;
  readonly facts: () => HeartbeatFacts;
  readonly onCancel: (runId: string) => void;
  readonly onBeat: () => void;
  readonly onMissed: (error: DecoError) => void;
  /** Where the signed app listens, with `--no-tunnel`. */
  readonly tunnelUrl: string | undefined;
  readonly news: SuperviseOptions["news"];
  readonly log: Log;
}

type LinkParts = Pick<
  SuperviseOptions,
  "register" | "heartbeats" | "dial" | "leave" | "credentialsStamp"
>;

/** The four things that the supervise loop does, bound to this daemon's parts. */
export function linkParts(options: LinkPartsOptions): LinkParts {
  const { config, hub, clock, app, news, log } = options;
  const sources: TokenSources = {
    sessionFile: config.paths.sessionFile,
    ...(config.userToken === undefined ? {} : { token: config.userToken }),
    ...(config.userTokenFile === undefined ? {} : { tokenFile: config.userTokenFile }),
  };
  return {
    register: (signal) => register(options, sources, signal),
    heartbeats: (session, { onBeat, signal }) =>
      heartbeats({
        ...options,
        session,
        clock,
        news,
        signal,
        onBeat: () => {
          options.onBeat();
          onBeat();
        },
      }),
    ...(config.tunnel
      ? {
          dial: (session: LinkSession, signal: AbortSignal) =>
            dialTunnel({
              url: hub.tunnelUrl,
              headers: { "x-link-secret": session.linkSecret },
              handler: (request, { upgrade, target }) =>
                app.fetch(request, { tunnelUpgrade: upgrade, target }),
              signal,
            }),
        }
      : {}),
    leave: (session) =>
      hub.leave(session.linkSecret, AbortSignal.timeout(2000)).catch((error: unknown) => {
        log.warn({ err: error }, "the hub was not told; it shows this link until its time is over");
      }),
    credentialsStamp: () => credentialsStamp(sources),
  };
}

async function register(
  options: LinkPartsOptions,
  sources: TokenSources,
  signal: AbortSignal,
): Promise<LinkSession> {
  const { config, hub, identity, clock, facts, tunnelUrl } = options;
  const userToken = await readUserToken(sources, hub.origin);
  const registered = await enrol({
    hub,
    identity,
    profile: {
      name: config.name ?? hostname(),
      hostname: hostname(),
      platform: process.platform,
      arch: process.arch,
      cliVersion: VERSION,
    },
    capabilities: facts().capabilities,
    clock,
    signal,
    ...(userToken === undefined ? {} : { userToken }),
    ...(tunnelUrl === undefined ? {} : { tunnelUrl }),
  });
  const { linkId, epoch, linkSecret, heartbeatIntervalMs, ttlMs } = registered;
  await writeLinkRecord(config.paths.linkFile, { hub: hub.origin, linkId, epoch });
  const signingKey = fromBase64Url(registered.signingKey);
  return { linkId, epoch, linkSecret, signingKey, heartbeatIntervalMs, ttlMs };
}
