import { DecoError } from "../protocol/errors.ts";
import { createOutput, type Output } from "./output.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** What every command gets besides its own options. */
export interface CommandContext {
  readonly out: Output;
  readonly env: Environment;
  /** Aborts with the first SIGINT or SIGTERM: drain and leave. */
  readonly signal: AbortSignal;
}

/** A command ends with its exit code, or throws a {@link DecoError} that has one. */
export type Command = (context: CommandContext) => Promise<number>;

const SIGNALS = new Map<NodeJS.Signals, number>([
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
]);

/**
 * Runs one command to its end and gives the exit code: its own, the error's, or 130/143 when a
 * signal ended it. The second signal ends the process at once.
 */
export async function runCommand(options: {
  readonly json: boolean;
  readonly command: Command;
  readonly env?: Environment;
}): Promise<number> {
  const { json, command, env = process.env } = options;
  const out = createOutput({ json, env });
  const stop = new AbortController();
  let signalled: number | undefined;
  const onSignal = (name: NodeJS.Signals) => {
    const code = SIGNALS.get(name) ?? 1;
    if (signalled !== undefined) process.exit(code);
    signalled = code;
    stop.abort(new DecoError("draining", `stopped by ${name}`));
  };
  for (const name of SIGNALS.keys()) process.on(name, onSignal);
  try {
    const code = await command({ out, env, signal: stop.signal });
    return signalled ?? code;
  } catch (thrown) {
    const error = DecoError.from(thrown);
    if (signalled !== undefined) {
      if (error !== stop.signal.reason && !isAbort(thrown)) out.error(error);
      return signalled;
    }
    out.error(error);
    if (error.code === "internal" && env["DECO_DEBUG"] && thrown instanceof Error)
      out.note(thrown.stack ?? "");
    return error.info.exit ?? 1;
  } finally {
    for (const name of SIGNALS.keys()) process.off(name, onSignal);
  }
}

function isAbort(thrown: unknown): boolean {
  return (
    thrown instanceof Error && (thrown.name === "AbortError" || thrown.name === "TimeoutError")
  );
}
