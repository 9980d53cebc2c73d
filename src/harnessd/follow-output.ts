import { setTimeout as sleep } from "node:timers/promises";
import { type Deferred, deferred } from "../protocol/deferred.ts";
import { DecoError } from "../protocol/errors.ts";
import type { Child, ChildExit } from "./child.ts";
import { EndMark } from "./end-mark.ts";
import { pumpText } from "./output.ts";

/** Takes a piece of output; the next one comes when this has resolved. */
export type TakeOutput = (stream: "stdout" | "stderr", text: string) => Promise<void>;

/** How long output may still come when the program has ended but something holds its pipes. */
const PIPE_WAIT_MS = 500;
/** The same when the taker is slow: so long at least, and until what the pipes may hold was taken. */
const SLOW_WAIT_MS = 5000;
/** Long enough for a look at the pipes between two timers. */
const CATCH_UP_MS = 10;
const CATCH_UP_TURNS = 64;
/** More than the pipes and buffers between a program and its taker hold, in characters. */
const PIPES_HOLD = 1024 * 1024;

/**
 * Gives a program's output away until it has ended and all that it said has come: up to its end
 * marks where it writes any, however slow the way, else until its pipes are empty or silent. A child
 * that it left behind with its pipes is not waited for; but the pipes are emptied on and on (what
 * comes is dropped), so that such a server does not die of a closed pipe.
 *
 * @throws what `take` rejects with, at once
 */
export async function followOutput(child: Child, take: TakeOutput): Promise<ChildExit> {
  const follower = new Follower(take);
  const failed = follower.failed.promise;
  const out = followStream(child, "stdout", follower);
  const err = followStream(child, "stderr", follower);
  try {
    const exit = await Promise.race([child.exited, failed]);
    const emptied = Promise.all([out.emptied, err.emptied]);
    if (exit.reported) {
      await Promise.race([Promise.all([out.passed, err.passed]), failed]);
      // What wrapped the command goes now, and shall be in nobody's count of what it left behind.
      await Promise.race([emptied, failed, sleep(PIPE_WAIT_MS)]);
    } else await untilSilent(follower, emptied);
    return exit;
  } finally {
    follower.open = false;
  }
}

interface FollowedStream {
  /** Its end mark has come, or its end. */
  readonly passed: Promise<void>;
  readonly emptied: Promise<void>;
}

function followStream(child: Child, name: "stdout" | "stderr", follower: Follower): FollowedStream {
  const take = (text: string) => follower.take(name, text);
  if (child.endMark === undefined) {
    const emptied = pumpText(child[name], take).catch(() => undefined);
    return { passed: emptied, emptied };
  }
  const mark = new EndMark(child.endMark);
  const emptied = pumpText(child[name], (text) => mark.push(text, take))
    .catch(() => undefined)
    .then(() => mark.close(take));
  return { passed: mark.passed.promise, emptied };
}

/** A taker that waits (for its log's reader, perhaps for hours) must lose nothing that was said. */
async function untilSilent(follower: Follower, emptied: Promise<unknown>): Promise<void> {
  const exitedAt = performance.now();
  const ended = emptied.then(() => true);
  const takenAtExit = follower.taken;
  while (performance.now() - exitedAt < SLOW_WAIT_MS || follower.taken - takenAtExit < PIPES_HOLD) {
    const before = follower.waitedMs();
    const wait = sleep(PIPE_WAIT_MS, false);
    if (await Promise.race([ended, follower.failed.promise, wait])) break;
    await follower.caughtUp();
    // Only a slow taker is given longer: what it held up is still in the pipe.
    if (follower.waitedMs() - before < PIPE_WAIT_MS / 2) break;
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

  /** Timers of a loop that stood still run before it reads: what came meanwhile is not silence. */
  async caughtUp(): Promise<void> {
    for (let turn = 0; turn < CATCH_UP_TURNS; turn++) {
      const before = this.taken;
      await sleep(CATCH_UP_MS);
      if (this.taken === before) return;
    }
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
