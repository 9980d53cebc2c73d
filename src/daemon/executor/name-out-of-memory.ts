import { DecoError, type ErrorCode } from "../../protocol/errors.ts";
import { outOfMemory } from "../../sandbox/out-of-memory.ts";
import type { LiveRun } from "./live-run.ts";
import { LegError } from "./run-failure.ts";

const LOOK_MS = 5_000;
/** What a lack of memory looks like from outside. */
const SYMPTOMS: ReadonlySet<ErrorCode> = new Set([
  "sandbox_lost",
  "harness_failed",
  "harness_unreachable",
  "harness_restarted",
]);
/** 128 + SIGKILL. */
const KILLED = 137;

/**
 * A run's failure, told as out_of_memory where the engine says that the kernel ended something in
 * its sandbox for that, in its time. A failure that nobody can look into stays what it is.
 */
export async function nameOutOfMemory(
  { provider, handle, sandbox }: LiveRun,
  thrown: unknown,
  signal: AbortSignal,
): Promise<unknown> {
  const { leg, error } =
    thrown instanceof LegError
      ? thrown
      : { leg: "sandbox" as const, error: DecoError.from(thrown) };
  if (sandbox === undefined || !SYMPTOMS.has(error.code)) return thrown;
  const within = AbortSignal.any([signal, AbortSignal.timeout(LOOK_MS)]);
  const now = await provider.inspect(handle, within).catch(() => undefined);
  if (now?.outOfMemory === undefined) return thrown;
  if (now.id !== sandbox.id || now.startedAt !== sandbox.startedAt) return thrown;
  const { exitCode } = error.extensions;
  const before = sandbox.outOfMemory !== undefined;
  // It may have been another run's: then only a process that was killed points to this one.
  if (before && exitCode !== KILLED && now.status === "running") return thrown;
  const { message, fix, extensions } = outOfMemory("during the run", now.outOfMemory.limitMib);
  const detail = `${message}: ${error.message}`;
  const more = { fix, cause: thrown, extensions: { ...extensions, exitCode } };
  return new LegError(leg, new DecoError("out_of_memory", detail, more));
}
