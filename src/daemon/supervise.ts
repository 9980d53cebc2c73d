import { DecoError } from "../protocol/errors.ts";
import { SESSION_ENDS } from "./hub-api.ts";
import { Alarm } from "./supervise-alarm.ts";
import { type LinkEvent, type LinkSession, type LinkState, nextState } from "./supervise-state.ts";
import { keepTunnel, type Tunnel } from "./supervise-tunnel.ts";
import { watchWake } from "./supervise-wake.ts";

export interface SuperviseOptions {
  /** Registers once: connect and verify. */
  readonly register: (signal: AbortSignal) => Promise<LinkSession>;
  /** Sends heartbeats while the session lasts; `onBeat` after each that the hub took. */
  readonly heartbeats: (
    session: LinkSession,
    hooks: { readonly onBeat: () => void; readonly signal: AbortSignal },
  ) => Promise<"aborted" | "clock_jumped">;
  /** Dials the tunnel once; absent with `--no-tunnel`. */
  readonly dial?: (session: LinkSession, signal: AbortSignal) => Promise<Tunnel>;
  /** Ends the epoch at the hub, on a clean stop. */
  readonly leave: (session: LinkSession) => Promise<void>;
  /** The control plane takes this session's signatures from now on, and no other's. */
  readonly onSession: (session: LinkSession | undefined) => void;
  readonly onState: (state: LinkState, event: LinkEvent) => void;
  /** Rung to send the next heartbeat at once. */
  readonly news: Alarm;
  /** A service stays when the hub refuses it; in the foreground that ends the daemon. */
  readonly service: boolean;
  /** Changes with the credentials. */
  readonly credentialsStamp: () => Promise<string>;
  readonly signal: AbortSignal;
  readonly random?: () => number;
  readonly now?: () => number;
  readonly monotonic?: () => number;
  /** Milliseconds between two tries of a refused service, and between two looks at its credentials. */
  readonly refusedRetryMs?: number;
  readonly credentialsEveryMs?: number;
  readonly wakeEveryMs?: number;
}

/** First delay, ceiling, and the time online after which the next failure counts as the first. */
export const BACKOFF = { baseMs: 500, maxMs: 60_000, steadyMs: 30_000 } as const;

/**
 * Keeps this laptop linked until `signal` aborts: connect, verify, register, advertise, as states
 * that are entered again after every loss, for ever, with full jitter.
 *
 * @throws DecoError `superseded` (exit 9), `revoked` (exit 4), and in the foreground whatever made
 *   the hub refuse the registration (exit 4). Nothing else ends it.
 */
export async function supervise(options: SuperviseOptions): Promise<void> {
  const { now = Date.now } = options;
  const machine = stateMachine(options, now);
  const wake = new Alarm();
  const watch = watchWake({
    onWake: () => {
      wake.ring();
      options.news.ring();
    },
    now,
    ...(options.monotonic ? { monotonic: options.monotonic } : {}),
    ...(options.wakeEveryMs ? { everyMs: options.wakeEveryMs } : {}),
  });
  try {
    await supervised(options, machine, wake, now);
    machine.apply({ type: "stop" });
  } catch (thrown) {
    const error = DecoError.from(thrown);
    machine.apply({ type: "stop", error });
    throw error;
  } finally {
    watch[Symbol.dispose]();
    options.onSession(undefined);
  }
}

interface Machine {
  readonly state: () => LinkState;
  readonly apply: (event: LinkEvent) => void;
}

function stateMachine(options: SuperviseOptions, now: () => number): Machine {
  let state: LinkState = { type: "connecting", since: now(), attempt: 0 };
  return {
    state: () => state,
    apply(event) {
      const next = nextState(state, event, now());
      if (next === state) return;
      state = next;
      options.onState(state, event);
    },
  };
}

async function supervised(
  options: SuperviseOptions,
  machine: Machine,
  wake: Alarm,
  now: () => number,
): Promise<void> {
  const { signal, random = Math.random } = options;
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    machine.apply({ type: "connect", attempt });
    const end = await sessionOnce(options, machine, wake, now);
    if (signal.aborted) return;
    const { error } = end;
    if (error.code === "superseded" || error.code === "revoked") throw error;
    if (end.type === "refused") {
      if (!options.service) throw error;
      await untilCredentialsChange(options, machine, wake, { error, now });
      attempt = -1;
      continue;
    }
    if (end.steady) attempt = 0;
    // The first loss after a steady time registers again at once; a hub that goes on refusing waits.
    if (end.type === "ended" && attempt === 0) continue;
    const retryInMs =
      random() * Math.min(BACKOFF.maxMs, BACKOFF.baseMs * 2 ** Math.min(attempt, 16));
    machine.apply({ type: "wait", retryAt: now() + retryInMs, error });
    await wake.wait(retryInMs, signal);
  }
}

type SessionEnd =
  /** A session was there, and the hub (or a jump of its clock) ended it. */
  | { readonly type: "ended"; readonly error: DecoError; readonly steady: boolean }
  /** The registration was refused: trying again changes nothing. */
  | { readonly type: "refused"; readonly error: DecoError }
  | { readonly type: "failed"; readonly error: DecoError; readonly steady: false };

async function sessionOnce(
  options: SuperviseOptions,
  machine: Machine,
  wake: Alarm,
  now: () => number,
): Promise<SessionEnd> {
  let session: LinkSession;
  try {
    session = await options.register(options.signal);
  } catch (thrown) {
    const error = DecoError.from(thrown, "hub_unreachable");
    return isRefusal(error) ? { type: "refused", error } : { type: "failed", error, steady: false };
  }
  const since = now();
  options.onSession(session);
  machine.apply({ type: "registered", session });
  const error = await liveSession(options, session, machine, wake).catch((thrown: unknown) =>
    DecoError.from(thrown, "tunnel_lost"),
  );
  options.onSession(undefined);
  if (options.signal.aborted) await options.leave(session);
  return { type: "ended", error, steady: now() - since >= BACKOFF.steadyMs };
}

/** Heartbeats and tunnel side by side; the first of the two that ends takes the other with it. */
async function liveSession(
  options: SuperviseOptions,
  session: LinkSession,
  machine: Machine,
  wake: Alarm,
): Promise<DecoError> {
  const over = new AbortController();
  const signal = AbortSignal.any([options.signal, over.signal]);
  const { dial, news } = options;
  if (dial === undefined) machine.apply({ type: "tunnel_up" });
  const onBeat = () => machine.apply({ type: "advertised" });
  const beating = options.heartbeats(session, { onBeat, signal }).then(() => undefined);
  const tunnel =
    dial === undefined
      ? undefined
      : keepTunnel({
          dial: (dialSignal) => dial(session, dialSignal),
          onUp: () => {
            machine.apply({ type: "tunnel_up" });
            news.ring();
          },
          onDown: (error) => machine.apply({ type: "tunnel_down", error }),
          wake,
          signal,
          ...(options.random ? { random: options.random } : {}),
        });
  const loops = tunnel === undefined ? [beating] : [beating, tunnel];
  try {
    await Promise.race(loops);
    return new DecoError("secret_expired", "the hub's clock jumped: registering again");
  } finally {
    over.abort();
    await Promise.allSettled(loops);
  }
}

/** Refused for good: 401, 403, 426, or another that only the user can change. */
function isRefusal(error: DecoError): boolean {
  const { status, exit, retryable } = error.info;
  if (error.code === "usage") return true;
  if (SESSION_ENDS.has(error.code) && error.code !== "revoked") return false;
  return !retryable && (exit === 4 || status === 401 || status === 403 || status === 426);
}

async function untilCredentialsChange(
  options: SuperviseOptions,
  machine: Machine,
  wake: Alarm,
  { error, now }: { error: DecoError; now: () => number },
): Promise<void> {
  const { signal, refusedRetryMs = 300_000, credentialsEveryMs = 2000 } = options;
  const retryAt = now() + refusedRetryMs;
  machine.apply({ type: "unauthorised", retryAt, error });
  const before = await options.credentialsStamp();
  while (!signal.aborted && now() < retryAt) {
    const how = await wake.wait(Math.min(credentialsEveryMs, retryAt - now()), signal);
    if (how !== "elapsed" || (await options.credentialsStamp()) !== before) return;
  }
}
