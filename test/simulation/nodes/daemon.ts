import { controlApp } from "../../../src/daemon/control/app.ts";
import { type SigningSession, signed } from "../../../src/daemon/control/signed.ts";
import { enrol } from "../../../src/daemon/enrol.ts";
import { createExecutor, type Executor } from "../../../src/daemon/executor/run-executor.ts";
import { heartbeats } from "../../../src/daemon/heartbeat.ts";
import { hubApi } from "../../../src/daemon/hub-api.ts";
import type { Identity } from "../../../src/daemon/identity.ts";
import { type Journal, openJournal } from "../../../src/daemon/journal.ts";
import { silentLog } from "../../../src/daemon/log.ts";
import { type StatusSnapshot } from "../../../src/daemon/status.ts";
import { supervise } from "../../../src/daemon/supervise.ts";
import { Alarm } from "../../../src/daemon/supervise-alarm.ts";
import type { LinkSession } from "../../../src/daemon/supervise-state.ts";
import type { Tunnel } from "../../../src/daemon/supervise-tunnel.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import { HubClock } from "../../../src/protocol/hub-clock.ts";
import { fromBase64Url } from "../../../src/protocol/keys.ts";
import { NonceCache } from "../../../src/protocol/nonces.ts";
import { isEnded } from "../../../src/protocol/run-events.ts";
import type { SandboxProvider } from "../../../src/sandbox/provider.ts";
import { dialTunnel } from "../shims/tunnel-dial.ts";

export const HUB_URL = "http://127.0.0.1:4000";

export interface DaemonOptions {
  readonly identity: Identity;
  readonly provider: SandboxProvider;
  readonly userToken: string;
  readonly wrapJournal: (journal: Journal) => Journal;
  readonly onRegister: () => void;
  readonly onRegistered: (session: LinkSession) => void;
  /** The hub said that a newer daemon took over. */
  readonly onSuperseded: () => void;
  readonly onState: (state: string) => void;
}

/** A daemon that runs: the product's parts, wired as its `main.ts` wires them. */
export interface SimDaemon {
  readonly journal: Journal;
  readonly executor: Executor;
  /** Settles when it ends by itself. */
  readonly ended: Promise<DecoError | undefined>;
}

const CAPABILITIES = [{ name: "process" }, { name: "shell" }];

export function startSimDaemon(options: DaemonOptions): SimDaemon {
  const journal = options.wrapJournal(openJournal({ path: "journal.db" }));
  const { provider } = options;
  const executor = createExecutor({
    journal,
    providers: new Map([[provider.name, provider]]),
    defaultProvider: () => provider.name,
    modelProxy: {
      openSandbox: () => Promise.resolve({ [Symbol.asyncDispose]: () => Promise.resolve() }),
      grant: () => ({ token: "model" }),
      revoke: () => undefined,
      usage: () => ({ inputTokens: 0, outputTokens: 0, requests: 0 }),
    },
    limits: { maxRuns: 4 },
    instanceId: "simulated",
    log: silentLog,
  });
  const clock = new HubClock({ now: Date.now });
  let signing: SigningSession | undefined;
  const app = controlApp({
    status: () => STATUS,
    log: silentLog,
    journal,
    runs: executor,
    sandboxes: { ...NO_SANDBOXES, forHub: NO_SANDBOXES },
    prune: { look: none, execute: none },
  });
  const signedApp = signed({ app, session: () => signing, now: () => clock.now() });
  executor.resumeAll();
  const ended = link(options, { journal, executor, clock, signedApp }, (session) => {
    const nonces = new NonceCache({ now: () => clock.now() });
    signing = session && { ...session, key: session.signingKey, nonces };
  });
  return { journal, executor, ended };
}

interface Parts {
  readonly journal: Journal;
  readonly executor: Executor;
  readonly clock: HubClock;
  readonly signedApp: ReturnType<typeof controlApp>;
}

async function link(
  options: DaemonOptions,
  { journal, executor, clock, signedApp }: Parts,
  onSession: (session: LinkSession | undefined) => void,
): Promise<DecoError | undefined> {
  const hub = hubApi({ hubUrl: HUB_URL });
  const news = new Alarm();
  const heard = <T>(work: Promise<T>) => work.catch((error: unknown) => hear(options, error));
  try {
    await supervise({
      register: (signal) => register(options, { hub, clock, signal }),
      heartbeats: (session, { onBeat, signal }) =>
        heard(
          heartbeats({
            hub,
            session,
            clock,
            news,
            signal,
            onBeat,
            facts: () => factsOf(journal),
            onCancel: (runId) => quietly(() => executor.cancel(runId)),
            onMissed: () => undefined,
          }),
        ),
      dial: (session, signal) =>
        heard(
          dialTunnel({
            url: hub.tunnelUrl,
            headers: { "x-link-secret": session.linkSecret },
            handler: (request) => signedApp.fetch(request, {}),
            signal,
          }).then((tunnel) => listening(options, tunnel)),
        ),
      leave: (session) =>
        hub.leave(session.linkSecret, AbortSignal.timeout(2000)).catch(() => undefined),
      onSession,
      onState: ({ type }) => options.onState(type),
      news,
      service: true,
      credentialsStamp: () => Promise.resolve("always the same"),
      signal: new AbortController().signal,
    });
    return undefined;
  } catch (error) {
    return DecoError.from(error);
  }
}

async function register(
  { identity, userToken, onRegister, onRegistered }: DaemonOptions,
  o: { hub: ReturnType<typeof hubApi>; clock: HubClock; signal: AbortSignal },
): Promise<LinkSession> {
  onRegister();
  const registered = await enrol({
    ...o,
    identity,
    userToken,
    profile: { name: "sim", hostname: "sim", platform: "linux", arch: "x64", cliVersion: "0.1.0" },
    capabilities: CAPABILITIES,
  });
  const { linkId, epoch, linkSecret, heartbeatIntervalMs, ttlMs } = registered;
  const signingKey = fromBase64Url(registered.signingKey);
  const session = { linkId, epoch, linkSecret, signingKey, heartbeatIntervalMs, ttlMs };
  onRegistered(session);
  return session;
}

function factsOf(journal: Journal) {
  const runs = journal.heartbeatRuns();
  const active = runs.filter((run) => !isEnded(run.status)).length;
  const load = { runs: active, maxRuns: 4 };
  const settled = (after: number | undefined) => journal.settledRuns(after);
  return { state: "online" as const, load, runs, capabilities: CAPABILITIES, settled };
}

/** Notes what the hub told this daemon, and lets it go on. */
function hear({ onSuperseded }: DaemonOptions, error: unknown): never {
  if (error instanceof DecoError && error.code === "superseded") onSuperseded();
  throw error;
}

function listening({ onSuperseded }: DaemonOptions, tunnel: Tunnel): Tunnel {
  void tunnel.closed.then(({ code }) => code === 4000 && onSuperseded());
  return tunnel;
}

function quietly(act: () => void): void {
  try {
    act();
  } catch {
    // As the daemon does: the hub asks again.
  }
}

const none = () => Promise.reject(new DecoError("sandbox_not_found", "not simulated"));
const NO_SANDBOXES = {
  ensure: none,
  list: none,
  inspect: none,
  remove: none,
  endpoint: none,
  files: none,
  allowHub: none,
  logs: none,
  exec: none,
};

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the relay wants an answer, no more
const STATUS = {} as StatusSnapshot;
