import { DecoError } from "../protocol/errors.ts";
import { CLOSE } from "../protocol/mux.ts";
import { SESSION_ENDS } from "./hub-api.ts";
import type { Alarm } from "./supervise-alarm.ts";

/** The daemon's end of one tunnel. */
export interface Tunnel extends AsyncDisposable {
  /** Settles when the connection ends, for whatever reason. */
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
}

export interface KeepTunnelOptions {
  /** Dials once, with the credential of this very moment (LESSONS 3). */
  readonly dial: (signal: AbortSignal) => Promise<Tunnel>;
  readonly onUp: () => void;
  readonly onDown: (error: DecoError) => void;
  /** Rung on a wake: the old connection is given up, a new one dialled at once. */
  readonly wake: Alarm;
  readonly signal: AbortSignal;
  readonly random?: () => number;
  readonly now?: () => number;
}

/** Redials: soon for the first half minute, then up to half a minute apart; full jitter. */
export const REDIAL = { baseMs: 50, soonMs: 1000, soonForMs: 30_000, maxMs: 30_000 } as const;

/**
 * Keeps a tunnel open for the life of one session. A broken one is dialled again at once, then with
 * jitter, for ever: it takes neither the session nor a run with it (LESSONS 2).
 *
 * @throws DecoError one of SESSION_ENDS: the hub does not take this session any more.
 */
export async function keepTunnel(options: KeepTunnelOptions): Promise<void> {
  const { dial, onUp, onDown, wake, signal, random = Math.random, now = Date.now } = options;
  let failures = 0;
  let downSince = now();
  while (!signal.aborted) {
    let upSince: number | undefined;
    try {
      await using tunnel = await dial(signal);
      upSince = now();
      onUp();
      await firstEnd(tunnel, wake, signal);
    } catch (thrown) {
      if (signal.aborted) return;
      const error = DecoError.from(thrown, "tunnel_lost");
      if (SESSION_ENDS.has(error.code)) throw error;
      onDown(error);
      // Not one that the hub accepted and closed at once: it must not make us spin.
      if (upSince !== undefined && now() - upSince >= REDIAL.soonMs) failures = 0;
      if (failures === 0) downSince = now();
    }
    const ceiling = now() - downSince < REDIAL.soonForMs ? REDIAL.soonMs : REDIAL.maxMs;
    const retryInMs =
      failures === 0 ? 0 : random() * Math.min(ceiling, REDIAL.baseMs * 2 ** failures);
    failures = Math.min(failures + 1, 16);
    if (retryInMs > 0) await wake.wait(retryInMs, signal);
  }
}

/** Ends as the tunnel does: by itself (with the hub's reason), by a wake, or by our own will. */
async function firstEnd(tunnel: Tunnel, wake: Alarm, signal: AbortSignal): Promise<void> {
  const waits = new AbortController();
  const woken = wake.wait(Number.POSITIVE_INFINITY, AbortSignal.any([signal, waits.signal]));
  try {
    const end = await Promise.race([tunnel.closed, woken]);
    if (typeof end !== "string") throw closeError(end);
    if (end === "rung") throw new DecoError("tunnel_lost", "the laptop slept; dialling again");
  } finally {
    waits.abort();
  }
}

/** The hub says why by the code of its close frame. */
function closeError({ code, reason }: { code: number; reason: string }): DecoError {
  if (code === CLOSE.superseded) {
    return new DecoError("superseded", `the hub closed the tunnel: ${reason}`);
  }
  if (code === CLOSE.revoked) {
    return new DecoError("revoked", `the hub closed the tunnel: ${reason}`);
  }
  return new DecoError("tunnel_lost", `the tunnel closed with ${code}${reason && `: ${reason}`}`);
}
