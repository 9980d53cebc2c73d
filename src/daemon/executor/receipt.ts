import { setTimeout as sleep } from "node:timers/promises";
import { DecoError } from "../../protocol/errors.ts";
import type { SandboxInfo } from "../../sandbox/provider.ts";
import type { LiveRun } from "./live-run.ts";
import type { ExecutorParts } from "./parts.ts";
import { LegError } from "./run-failure.ts";

/** Where a run ran, by the daemon's own look at the engine (LESSONS 25). */
export interface Receipt {
  readonly provider: string;
  readonly handle: string;
  readonly id: string;
  readonly image?: string;
  readonly imageId?: string;
  /** Of its manifest where it came from a registry, else its id. */
  readonly imageDigest?: string;
  readonly startedAt: string;
  readonly confined: boolean;
  /** Processes besides init and harnessd; null when the engine did not answer. */
  readonly processesLeft: number | null;
}

const TRIES = 3;
const CALL_MS = 5000;
const LEAVING_MS = [20, 80, 150];

/**
 * Looks at the run's sandbox once more.
 *
 * @throws LegError sandbox_lost, when it is not the one that the run was started in
 */
export async function takeReceipt(parts: ExecutorParts, live: LiveRun): Promise<Receipt> {
  for (let round = 1; round <= TRIES; round++) {
    try {
      return await look(parts, live);
    } catch (error) {
      parts.leaving.throwIfAborted();
      if (error instanceof LegError) throw error;
      parts.log.warn({ err: error, handle: live.handle }, "could not look at the sandbox; again");
      await sleep(100 * round, undefined, { signal: parts.leaving });
    }
  }
  if (live.sandbox) return receiptOf(live.sandbox, null);
  throw new LegError("sandbox", new DecoError("sandbox_lost", "nobody saw the sandbox"));
}

async function look(parts: ExecutorParts, live: LiveRun): Promise<Receipt> {
  const { provider, handle, sandbox } = live;
  const signal = AbortSignal.any([parts.leaving, AbortSignal.timeout(CALL_MS)]);
  const info = await provider.inspect(handle, signal);
  // An engine that does not answer knows no id either: that is no other sandbox (LESSONS 27).
  if (info?.status === "unknown") throw new Error("the engine does not know its state");
  const same = info?.id === sandbox?.id && info?.startedAt === sandbox?.startedAt;
  if (!info || info.status === "stopped" || (sandbox && !same)) {
    const detail = `sandbox ${handle} is not the one any more in which the run was started`;
    throw new LegError("sandbox", new DecoError("sandbox_lost", detail));
  }
  return receiptOf(info, await countLeft(live, signal));
}

/** What just ended may still be leaving: only what stays is counted. */
async function countLeft({ provider, handle }: LiveRun, signal: AbortSignal): Promise<number> {
  let left = await provider.processesLeft(handle, signal);
  for (const inMs of LEAVING_MS) {
    if (left === 0) break;
    await sleep(inMs, undefined, { signal });
    left = await provider.processesLeft(handle, signal);
  }
  return left;
}

function receiptOf(info: SandboxInfo, processesLeft: number | null): Receipt {
  const { provider, handle, id, image, imageId, imageDigest, startedAt, confined } = info;
  return {
    provider,
    handle,
    id,
    ...(image === undefined ? {} : { image }),
    ...(imageId === undefined ? {} : { imageId }),
    ...(imageDigest === undefined ? {} : { imageDigest }),
    startedAt,
    confined,
    processesLeft,
  };
}
