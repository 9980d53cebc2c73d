import { DecoError } from "../../protocol/errors.ts";
import type { SandboxInfo } from "../../sandbox/provider.ts";
import type { LiveRun } from "./live-run.ts";
import { LegError } from "./run-failure.ts";

const LOOK_MS = 10_000;

/**
 * Looks whether the sandbox in which a run works is gone, and ends the run then. Two looks in a
 * row must say so; "I don't know" says nothing (LESSONS 27).
 *
 * @returns whether the run was ended
 */
export async function isLost(live: LiveRun, signal: AbortSignal): Promise<boolean> {
  const { provider, handle, sandbox } = live;
  if (!live.harness || !sandbox) return false;
  let found: SandboxInfo | undefined;
  try {
    const within = AbortSignal.any([signal, AbortSignal.timeout(LOOK_MS)]);
    found = await provider.inspect(handle, within);
  } catch {
    return false;
  }
  if (found?.status === "unknown") return false;
  const same = found?.id === sandbox.id && found.startedAt === sandbox.startedAt;
  const gone = found?.status !== "running" || !same;
  const again = gone && live.missed === true;
  live.missed = gone;
  if (again) live.stop("lost");
  return again;
}

/** Why such a run failed. */
export function lostSandbox({ handle }: LiveRun): LegError {
  const detail = `sandbox ${handle} is gone while its run works`;
  return new LegError("sandbox", new DecoError("sandbox_lost", detail));
}
