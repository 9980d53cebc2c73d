import { DecoError } from "../protocol/errors.ts";
import { untilAbort } from "../sandbox/until-abort.ts";

/** Sandboxes that are made for no run of the daemon's own: whoever asked for them is not waited for. */
export interface EnsureGate {
  /** @throws draining when the daemon leaves; what was begun is rolled back then */
  run<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Lets nothing more in; resolves when what was begun is over, or the signal aborts. Never throws. */
  close(signal: AbortSignal): Promise<void>;
}

export function ensureGate(): EnsureGate {
  const leaving = new AbortController();
  const inside = new Set<Promise<unknown>>();
  return {
    async run(signal, work) {
      leaving.signal.throwIfAborted();
      const one = work(AbortSignal.any([signal, leaving.signal]));
      inside.add(one);
      try {
        return await one;
      } finally {
        inside.delete(one);
      }
    },
    async close(signal) {
      leaving.abort(new DecoError("draining", "the daemon leaves"));
      await untilAbort(Promise.allSettled(inside), signal).catch(() => undefined);
    },
  };
}
