export interface HeartbeatOptions {
  readonly intervalMs: number;
  /** Grows with whatever arrives. */
  readonly received: () => number;
  readonly ping: (payload: Uint8Array) => void;
  readonly onDead: () => void;
}

export interface Heartbeat {
  onPong(payload: Uint8Array): void;
  readonly rttMs: number | undefined;
  stop(): void;
}

const MISSES = 3;

/**
 * Pings on a timer; dead after three intervals without a byte. Judged only after the loop has read
 * the socket once more: a loop that was starved, or slept, has bytes waiting (LESSONS 6).
 */
export function startHeartbeat(options: HeartbeatOptions): Heartbeat {
  let seen = options.received();
  let misses = 0;
  let rttMs: number | undefined;
  let due = performance.now() + options.intervalMs;
  let stopped = false;
  const timer = setInterval(() => {
    const now = performance.now();
    const late = now - due > options.intervalMs / 2;
    due = now + options.intervalMs;
    options.ping(stamp(now));
    if (heard()) return;
    // A late timer says nothing about the peer.
    if (!late) misses++;
    if (misses >= MISSES) setTimeout(() => setImmediate(judge), 0);
  }, options.intervalMs);

  function heard(): boolean {
    if (options.received() === seen) return false;
    seen = options.received();
    misses = 0;
    return true;
  }

  function judge(): void {
    if (!stopped && !heard()) options.onDead();
  }

  return {
    get rttMs() {
      return rttMs;
    },
    onPong(payload) {
      if (payload.byteLength !== 8) return;
      const sent = new DataView(payload.buffer, payload.byteOffset, 8).getFloat64(0);
      const took = performance.now() - sent;
      if (took >= 0 && took < 60_000) rttMs = took;
    },
    stop() {
      stopped = true;
      clearInterval(timer);
    },
  };
}

function stamp(now: number): Uint8Array {
  const payload = new Uint8Array(8);
  new DataView(payload.buffer).setFloat64(0, now);
  return payload;
}
