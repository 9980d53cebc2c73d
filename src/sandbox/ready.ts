import { setTimeout as sleep } from "node:timers/promises";
import { DecoError } from "../protocol/errors.ts";
import { harnessClient } from "./harness-client.ts";
import type { EnsureContext, HarnessEndpoint } from "./provider.ts";

/** What identifies one life of a sandbox: it changes when something restarted in between. */
export interface Life {
  readonly id: string;
  readonly startedAt: string;
}

export interface ReadyOptions<L extends Life> {
  /** One per way in; harnessd must answer on each, and twice in all. */
  readonly endpoints: readonly [HarnessEndpoint, ...HarnessEndpoint[]];
  /** The engine's word; throws when it is known that nothing runs any more. */
  readonly life: (signal: AbortSignal) => Promise<L>;
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
 * @returns that life, as it was looked at last, and the names of the harnesses that it offers
 * @throws sandbox_failed, harness_unreachable after `refusedMs`, or what `life` throws
 */
export async function awaitReady<L extends Life>(
  o: ReadyOptions<L>,
): Promise<{ life: L; harnesses: string[] }> {
  const deadline = AbortSignal.timeout(o.timeoutMs);
  const signal = AbortSignal.any([o.signal, deadline]);
  try {
    for (;;) {
      const first = await o.life(signal);
      for (const endpoint of o.endpoints) await answered(endpoint, o, signal);
      // The second answer, and the first that needs the token.
      const adapters = await harnessClient(o.endpoints[0]).harnesses(signal);
      const life = await o.life(signal);
      if (first.id !== life.id || first.startedAt !== life.startedAt) continue;
      return { life, harnesses: adapters.filter((a) => a.available).map((a) => a.name) };
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

/** Close together while it boots, which takes 0.1 to 1 s; then ever rarer. */
const pauseAfter = (triedMs: number) => Math.min(Math.max(6, triedMs / 32), 250);
/** The engine is asked rarely whether anything runs at all: it costs it more than our attempt. */
const ASK_ENGINE_MS = 200;

async function answered<L extends Life>(
  endpoint: HarnessEndpoint,
  { life, refusedMs = Number.POSITIVE_INFINITY }: ReadyOptions<L>,
  signal: AbortSignal,
): Promise<void> {
  const client = harnessClient(endpoint);
  const since = performance.now();
  for (let asked = since; ; ) {
    try {
      await client.health(signal);
      return;
    } catch (thrown) {
      signal.throwIfAborted();
      if (performance.now() - since > refusedMs) throw thrown;
      if (performance.now() - asked > ASK_ENGINE_MS) {
        await life(signal);
        asked = performance.now();
      }
      await sleep(pauseAfter(performance.now() - since), undefined, { signal });
    }
  }
}
