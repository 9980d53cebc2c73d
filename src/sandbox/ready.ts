import { setTimeout as sleep } from "node:timers/promises";
import { DecoError } from "../protocol/errors.ts";
import { harnessClient } from "./harness-client.ts";
import type { EnsureContext, HarnessEndpoint } from "./provider.ts";

/** What identifies one life of a sandbox: it changes when something restarted in between. */
export interface Life {
  readonly id: string;
  readonly startedAt: string;
}

export interface ReadyOptions {
  /** One per way in; harnessd must answer on each, and twice in all. */
  readonly endpoints: readonly [HarnessEndpoint, ...HarnessEndpoint[]];
  /** The engine's word; throws when it is known that nothing runs any more. */
  readonly life: (signal: AbortSignal) => Promise<Life>;
  readonly timeoutMs: number;
  /**
   * For a harnessd that was ready before: refusals, as against silence, are given up after so long.
   * Its socket is there however slow it is, unless something inside broke it.
   */
  readonly refusedMs?: number;
  readonly signal: AbortSignal;
}

/**
 * Waits until harnessd answered twice from inside one and the same life (LESSONS 25).
 *
 * @returns that life and the names of the harnesses that it offers
 * @throws sandbox_failed, harness_unreachable after `refusedMs`, or what `life` throws
 */
export async function awaitReady(o: ReadyOptions): Promise<Life & { harnesses: string[] }> {
  const deadline = AbortSignal.timeout(o.timeoutMs);
  const signal = AbortSignal.any([o.signal, deadline]);
  try {
    for (;;) {
      const first = await o.life(signal);
      const [main] = o.endpoints;
      await answered(main, o, signal);
      for (const other of o.endpoints.slice(1)) await answered(other, o, signal);
      await answered(main, o, signal);
      const second = await o.life(signal);
      if (first.id !== second.id || first.startedAt !== second.startedAt) continue;
      const adapters = await harnessClient(main).harnesses(signal);
      const harnesses = adapters.filter((a) => a.available).map((a) => a.name);
      return { ...second, harnesses };
    }
  } catch (thrown) {
    o.signal.throwIfAborted();
    if (!deadline.aborted) throw thrown;
    throw new DecoError("sandbox_failed", `harnessd did not answer within ${o.timeoutMs} ms`, {
      cause: thrown,
    });
  }
}

/** For a sandbox that was ready before; in milliseconds. */
export const reuseWait = (readyTimeoutMs: number) => ({
  timeoutMs: Math.min(readyTimeoutMs, 10_000),
  refusedMs: 1_500,
});

/**
 * Whether a running sandbox must be started anew, which keeps its workspace: harnessd refused, or
 * was silent all the time, while the engine answered. Never while a run works in it (LESSONS 38), and
 * never for an engine that does not answer (LESSONS 27).
 */
export function isBrokenInside(thrown: unknown, { inUse }: EnsureContext): boolean {
  const { code } = DecoError.from(thrown);
  return (code === "harness_unreachable" || code === "sandbox_failed") && inUse?.() !== true;
}

/** Tries until it answers; asks after each failure whether anything runs at all. */
async function answered(
  endpoint: HarnessEndpoint,
  { life, refusedMs = Number.POSITIVE_INFINITY }: ReadyOptions,
  signal: AbortSignal,
): Promise<void> {
  const client = harnessClient(endpoint);
  const since = performance.now();
  for (let waitMs = 5; ; waitMs = Math.min(waitMs * 1.6, 250)) {
    try {
      await client.health(signal);
      return;
    } catch (thrown) {
      signal.throwIfAborted();
      if (performance.now() - since > refusedMs) throw thrown;
      // The engine is asked rarely: each question costs it more than our attempt.
      if (waitMs > 40) await life(signal);
      await sleep(waitMs, undefined, { signal });
    }
  }
}
