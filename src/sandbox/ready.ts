import { setTimeout as sleep } from "node:timers/promises";
import { DecoError } from "../protocol/errors.ts";
import { harnessClient } from "./harness-client.ts";
import type { HarnessEndpoint } from "./provider.ts";

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
  readonly signal: AbortSignal;
}

/**
 * Waits until harnessd answered twice from inside one and the same life (LESSONS 25).
 *
 * @returns that life and the names of the harnesses that it offers
 * @throws sandbox_failed, or what `life` throws
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

/** Tries until it answers; asks after each failure whether anything runs at all. */
async function answered(
  endpoint: HarnessEndpoint,
  { life }: ReadyOptions,
  signal: AbortSignal,
): Promise<void> {
  const client = harnessClient(endpoint);
  for (let waitMs = 5; ; waitMs = Math.min(waitMs * 1.6, 250)) {
    try {
      await client.health(signal);
      return;
    } catch {
      signal.throwIfAborted();
      // The engine is asked rarely: each question costs it more than our attempt.
      if (waitMs > 40) await life(signal);
      await sleep(waitMs, undefined, { signal });
    }
  }
}
