import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DecoError } from "../../protocol/errors.ts";
import { startChild } from "../child.ts";
import { followOutput } from "../follow-output.ts";
import { TextTail } from "../output.ts";
import type { Adapter, AdapterContext, Completed } from "./adapter.ts";

/** How much of the output the closing events repeat, in characters. */
const OUTPUT_TAIL = 64 * 1024;

/**
 * Puts real pipes before the command's output: what Node and Bun give a child are sockets, which
 * can't be opened by name, so that `echo … >/dev/stderr` would fail. The mark goes the way of the
 * output, so that one who has read it has read all before it; then descriptor 3 takes the exit code.
 */
const WITH_PIPES = `mark=$1; shift; { {
  { sh "$@" 2>&5 3>&- 4>&- 5>&-; code=$?; trap '' PIPE
    printf %s "$mark"; printf %s "$mark" >&5; echo $code >&3; } 5>&1 1>&4 2>/dev/null
} | cat >&2 3>&- 4>&-; } 4>&1 | cat 3>&-`;

/** How much of a command its event shows, in characters. */
const MAX_SHOWN = 64 * 1024;
/** Linux takes arguments of up to 128 KiB; a longer command goes through a file. */
const MAX_ARGUMENT_BYTES = 128 * 1024 - 1;

/** Runs the prompt as `sh -c PROMPT` in the workspace. */
export function shellAdapter(): Adapter {
  return {
    name: "shell",
    availability: () => Promise.resolve({ name: "shell", available: true }),
    run: runShell,
  };
}

/** The command as events tell it: readers of events take 1 MiB at most. */
function shown(command: string): Record<string, unknown> {
  if (command.length <= MAX_SHOWN) return { command };
  return { command: command.slice(0, MAX_SHOWN), truncated: true };
}

async function shellArguments(command: string, scratch: string): Promise<string[]> {
  if (Buffer.byteLength(command) <= MAX_ARGUMENT_BYTES) return ["-c", command];
  const path = join(scratch, "command.sh");
  await writeFile(path, command, { mode: 0o600 });
  return [path];
}

async function runShell(context: AdapterContext): Promise<Completed> {
  const call = { callId: `call_${randomUUID()}`, tool: "shell" };
  const command = context.request.prompt;
  context.emit("tool.call.started", { ...call, arguments: shown(command) });
  const startedAt = performance.now();
  const tail = new TextTail(OUTPUT_TAIL);
  const completed = (more: Record<string, unknown>) => {
    const durationMs = Math.round(performance.now() - startedAt);
    context.emit("tool.call.completed", { ...call, output: tail.toString(), durationMs, ...more });
  };
  try {
    const endMark = `\u0004${randomUUID()}\u0004`;
    const child = await startChild({
      command: "sh",
      args: ["-c", WITH_PIPES, "sh", endMark, ...(await shellArguments(command, context.scratch))],
      endMark,
      cwd: context.workspace,
      env: context.env,
    });
    context.started(child.pid);
    const { code, signal } = await followOutput(child, async (stream, content) => {
      tail.push(content);
      context.emit("tool.output.delta", { callId: call.callId, stream, content });
      await context.room();
    });
    if (context.signal.aborted) {
      throw new DecoError("harness_failed", "the run was ended", {
        extensions: { exitCode: code },
      });
    }
    if (code === 0) {
      completed({ exitCode: 0 });
      return { output: tail.toString(), exitCode: 0 };
    }
    const detail = signal === undefined ? `exit code ${code}` : `ended by ${signal} (${code})`;
    throw new DecoError("harness_failed", detail, {
      extensions: { exitCode: code, output: tail.toString() },
    });
  } catch (error) {
    const failure = DecoError.from(error, "harness_failed");
    const { exitCode } = failure.extensions;
    const reason = context.signal.aborted ? "ended from outside" : failure.message;
    completed({ error: reason, ...(exitCode === undefined ? {} : { exitCode }) });
    throw failure;
  }
}
