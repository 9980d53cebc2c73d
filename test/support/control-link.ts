import { hostname } from "node:os";
import { enrol } from "../../src/daemon/enrol.ts";
import { heartbeats } from "../../src/daemon/heartbeat.ts";
import { hubApi } from "../../src/daemon/hub-api.ts";
import { openIdentity } from "../../src/daemon/identity.ts";
import { supervise } from "../../src/daemon/supervise.ts";
import { Alarm } from "../../src/daemon/supervise-alarm.ts";
import type { LinkSession, LinkState } from "../../src/daemon/supervise-state.ts";
import { dialTunnel } from "../../src/net/tunnel-dial.ts";
import { deferred } from "../../src/protocol/deferred.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import { HubClock } from "../../src/protocol/hub-clock.ts";
import { fromBase64Url } from "../../src/protocol/keys.ts";
import type { Capability } from "../../src/protocol/messages.ts";
import { testHome } from "./control-home.ts";

export interface LinkUnderTest extends AsyncDisposable {
  /** Settles when the loop ended; with the error that ended it. */
  readonly done: Promise<DecoError | undefined>;
  readonly states: LinkState["type"][];
  /** Epochs of the sessions as the control plane saw them come and go. */
  readonly sessions: (number | undefined)[];
  readonly capabilities: Capability[];
  readonly cancelled: string[];
  readonly clock: HubClock;
  readonly missed: number;
  session(): LinkSession | undefined;
  reached(state: LinkState["type"]): Promise<void>;
  reachedTimes(state: LinkState["type"], times: number): Promise<void>;
  changeCredentials(): void;
  /** Lets the wall clock run ahead, as it does while a laptop sleeps. */
  sleep(ms: number): void;
  now(): number;
}

export interface LinkOptions {
  readonly service?: boolean;
  readonly random?: () => number;
  readonly refusedRetryMs?: number;
  readonly tunnelUrl?: string;
}

/** The real supervise loop with the real enrolment, heartbeat and tunnel, against a played hub. */
export async function linkUnderTest(
  { url }: { url: string },
  options: LinkOptions = {},
): Promise<LinkUnderTest> {
  const home = await testHome();
  const identity = await openIdentity(home.paths.machineFile);
  const hub = hubApi({ hubUrl: url });
  const stop = new AbortController();
  let sleptMs = 0;
  let credentials = 0;
  let session: LinkSession | undefined;
  const now = () => Date.now() + sleptMs;
  const clock = new HubClock({ now: Date.now });
  const news = new Alarm();
  const waiting = new Set<() => void>();
  const link = {
    states: [] as LinkState["type"][],
    sessions: [] as (number | undefined)[],
    capabilities: [{ name: "shell", available: true }] as Capability[],
    cancelled: [] as string[],
    missed: 0,
  };
  const { random = () => 0.1, tunnelUrl } = options;
  const done = supervise({
    async register(signal) {
      const registered = await enrol({
        hub,
        identity,
        profile: {
          name: "test",
          hostname: hostname(),
          platform: process.platform,
          arch: process.arch,
          cliVersion: "0.0.0",
        },
        capabilities: [],
        userToken: "user-token",
        clock,
        signal,
        ...(tunnelUrl === undefined ? {} : { tunnelUrl }),
      });
      return { ...registered, signingKey: fromBase64Url(registered.signingKey) };
    },
    heartbeats: (current, { onBeat, signal }) =>
      heartbeats({
        hub,
        session: current,
        clock,
        facts: () => ({
          state: "online",
          load: { runs: 0 },
          runs: [],
          capabilities: [...link.capabilities],
          settled: () => undefined,
        }),
        onCancel: (runId) => link.cancelled.push(runId),
        onBeat,
        onMissed: () => {
          link.missed += 1;
        },
        news,
        signal,
        random,
      }),
    ...(tunnelUrl === undefined
      ? {
          dial: (current: LinkSession, signal: AbortSignal) =>
            dialTunnel({
              url: hub.tunnelUrl,
              headers: { "x-link-secret": current.linkSecret },
              handler: () => new Response("ok"),
              signal,
            }),
        }
      : {}),
    leave: (current) => hub.leave(current.linkSecret, AbortSignal.timeout(2000)),
    onSession(next) {
      if (next?.epoch === session?.epoch) return;
      session = next;
      link.sessions.push(next?.epoch);
    },
    onState(state) {
      link.states.push(state.type);
      for (const look of waiting) look();
    },
    news,
    service: options.service ?? false,
    credentialsStamp: async () => String(credentials),
    signal: stop.signal,
    random,
    now,
    wakeEveryMs: 5,
    credentialsEveryMs: 5,
    ...(options.refusedRetryMs === undefined ? {} : { refusedRetryMs: options.refusedRetryMs }),
  }).then(
    () => undefined,
    (thrown: unknown) => DecoError.from(thrown),
  );
  const reachedTimes = (state: LinkState["type"], times: number) => {
    const reached = deferred();
    const look = () => {
      if (link.states.filter((seen) => seen === state).length < times) return;
      waiting.delete(look);
      reached.resolve();
    };
    waiting.add(look);
    look();
    void done.then((end) => reached.reject(end ?? new Error(`ended before ${state}`)));
    return reached.promise;
  };
  return Object.assign(link, {
    done,
    clock,
    now,
    session: () => session,
    reachedTimes,
    reached: (state: LinkState["type"]) => reachedTimes(state, 1),
    changeCredentials: () => {
      credentials += 1;
    },
    sleep: (ms: number) => {
      sleptMs += ms;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await done;
      await home[Symbol.asyncDispose]();
    },
  });
}
