import { setTimeout as sleep } from "node:timers/promises";
import { type Deferred, deferred } from "../protocol/deferred.ts";
import { DecoError } from "../protocol/errors.ts";
import type { Child, ChildExit } from "./child.ts";
import { pumpText } from "./output.ts";

/** Takes a piece of output; the next one comes when this has resolved. */
export type TakeOutput = (stream: "stdout" | "stderr", text: string) => Promise<void>;

/** How long output may still come when the program has ended but something holds its pipes. */
const PIPE_WAIT_MS = 500;
/** The same when the taker is slow: so long at least, and until what the pipes may hold was taken. */
const SLOW_WAIT_MS = 5000;
/** More than the pipes and buffers between a program and its taker hold, in characters. */
const PIPES_HOLD = 1024 * 1024;

/**
 * Gives a program's output away until it has ended and its pipes are empty. A child that it left
 * behind with its pipes is not waited for; but the pipes are emptied on and on (what comes is
 * dropped), so that such a server does not die of a closed pipe.
 *
 * @throws what `take` rejects with, at once
 */
export async function followOutput(child: Child, take: TakeOutput): Promise<ChildExit> {
  const follower = new Follower(take);
  const pumps = Promise.allSettled([
    pumpText(child.stdout, (text) => follower.take("stdout", text)),
    pumpText(child.stderr, (text) => follower.take("stderr", text)),
  ]);
  try {
    await Promise.race([child.exited, follower.failed.promise]);
    const exitedAt = performance.now();
    const emptied = pumps.then(() => true);
    const takenAtExit = follower.taken;
    // A taker that waits (for its log's reader, perhaps for hours) must lose nothing that was said.
    while (
      performance.now() - exitedAt < SLOW_WAIT_MS ||
      follower.taken - takenAtExit < PIPES_HOLD
    ) {
      const before = follower.waitedMs();
      const wait = sleep(PIPE_WAIT_MS, false);
      if (await Promise.race([emptied, follower.failed.promise, wait])) break;
      // Only a slow taker is given longer: what it held up is still in the pipe.
      if (follower.waitedMs() - before < PIPE_WAIT_MS / 2) break;
    }
    return await child.exited;
  } finally {
    follower.open = false;
  }
}

class Follower {
  open = true;
  /** Characters given to the taker. */
  taken = 0;
  readonly failed: Deferred<never> = deferred<never>();
  readonly #take: TakeOutput;
  #waitedMs = 0;
  /** When the takers that are at it now began. */
  readonly #waitingSince = new Set<{ readonly at: number }>();

  constructor(take: TakeOutput) {
    this.#take = take;
    // Raced only while the program is followed.
    this.failed.promise.catch(() => undefined);
  }

  /** Time spent waiting for the taker, up to now. */
  waitedMs(): number {
    const now = performance.now();
    return [...this.#waitingSince].reduce((sum, { at }) => sum + now - at, this.#waitedMs);
  }

  async take(stream: "stdout" | "stderr", text: string): Promise<void> {
    if (!this.open) return;
    const since = { at: performance.now() };
    this.#waitingSince.add(since);
    try {
      await this.#take(stream, text);
      this.taken += text.length;
    } catch (error) {
      this.open = false;
      this.failed.reject(DecoError.from(error, "harness_failed"));
    }
    this.#waitingSince.delete(since);
    this.#waitedMs += performance.now() - since.at;
  }
}
