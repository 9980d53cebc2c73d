import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access, mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { DecoError } from "../../protocol/errors.ts";
import { type ChildExit, startChild } from "../child.ts";
import { followOutput } from "../follow-output.ts";
import { LineSplitter, TextTail } from "../output.ts";
import type { Adapter, AdapterContext, Completed, HarnessAvailability } from "./adapter.ts";
import {
  type ClaudeResult,
  type ClaudeState,
  claudeEvents,
  newClaudeState,
} from "./claude-events.ts";

/** The CLI's own default is 10, which is three minutes of an unreachable model. */
const MODEL_RETRIES = "3";
const STDERR_TAIL = 4096;
const VERSION_WITHIN_MS = 15_000;

export interface ClaudeOptions {
  /** Where harnessd looks for `claude`. */
  readonly path: string;
}

/**
 * Runs the prompt through the Claude Code CLI in print mode. The sandbox is what confines it, so
 * its own permission prompts are off: nobody could answer them.
 */
export function claudeAdapter(options: ClaudeOptions): Adapter {
  let known: Promise<HarnessAvailability> | undefined;
  return {
    name: "claude-code",
    availability: () => {
      known ??= probe(options.path);
      return known;
    },
    run: (context) => runClaude(context),
  };
}

async function probe(path: string): Promise<HarnessAvailability> {
  const name = "claude-code";
  try {
    const { stdout } = await promisify(execFile)("claude", ["--version"], {
      env: { PATH: path, HOME: tmpdir(), DISABLE_AUTOUPDATER: "1" },
      timeout: VERSION_WITHIN_MS,
    });
    const version = /\d+\.\d+\.\d+\S*/.exec(stdout)?.[0];
    return { name, available: true, ...(version === undefined ? {} : { version }) };
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
    const reason = missing ? "no claude in PATH" : `claude --version: ${String(error)}`;
    return { name, available: false, reason };
  }
}

async function runClaude(context: AdapterContext): Promise<Completed> {
  const state = newClaudeState();
  const stderr = new TextTail(STDERR_TAIL);
  const child = await startChild({
    command: "claude",
    args: await claudeArguments(context),
    cwd: context.workspace,
    env: await claudeEnvironment(context),
    // Never an argument: arguments are for everyone to read and end at 128 KiB.
    stdin: context.request.prompt,
  });
  context.started(child.pid);
  const lines = new LineSplitter();
  const exit = await followOutput(child, async (stream, text) => {
    if (stream === "stderr") return stderr.push(text);
    for (const line of lines.push(text)) {
      for (const event of claudeEvents(state, line, performance.now())) {
        context.emit(event.type, event.payload);
      }
      await context.room();
    }
  });
  return ending(state, exit, stderr.toString());
}

async function claudeArguments({ request, scratch }: AdapterContext): Promise<string[]> {
  const { model, max_steps: steps, system_prompt: system } = request;
  const systemFile = join(scratch, "system-prompt.txt");
  if (system !== undefined) await writeFile(systemFile, system, { mode: 0o600 });
  return [
    "-p",
    "--output-format=stream-json",
    "--verbose",
    "--include-partial-messages",
    "--permission-mode=bypassPermissions",
    ...(model === undefined ? [] : [`--model=${model}`]),
    ...(steps === undefined || steps === 0 ? [] : [`--max-turns=${steps}`]),
    ...(system === undefined ? [] : [`--append-system-prompt-file=${systemFile}`]),
  ];
}

async function claudeEnvironment(context: AdapterContext): Promise<Record<string, string>> {
  const { env, request } = context;
  const scratch = env["TMPDIR"] ?? tmpdir();
  const home = (await writable(env["HOME"])) ?? join(scratch, "home");
  await mkdir(home, { recursive: true, mode: 0o700 }).catch(() => undefined);
  const token = request.model_access?.token;
  if (token === undefined && env["ANTHROPIC_API_KEY"] === undefined) {
    throw new DecoError("model_unconfigured", "the run came without access to a model");
  }
  return {
    ...env,
    HOME: home,
    // With nowhere to write, the CLI prints nothing and exits with 0.
    CLAUDE_CODE_TMPDIR: (await writable(scratch)) ?? home,
    // As uid 0 it refuses to run without permission prompts unless told that this is a sandbox.
    IS_SANDBOX: "1",
    DISABLE_AUTOUPDATER: "1",
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    CLAUDE_CODE_MAX_RETRIES: env["CLAUDE_CODE_MAX_RETRIES"] ?? MODEL_RETRIES,
    ...(token === undefined
      ? {}
      : { ANTHROPIC_BASE_URL: await context.modelBaseUrl(), ANTHROPIC_API_KEY: token }),
  };
}

async function writable(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  return await access(path, constants.W_OK).then(
    () => path,
    () => undefined,
  );
}

function ending(state: ClaudeState, exit: ChildExit, stderr: string): Completed {
  const { result } = state;
  const said = stderr.trim() === "" ? "" : `: ${stderr.trim()}`;
  if (!result) {
    const how = `claude ended with ${exit.signal ?? `exit code ${exit.code}`} and no result`;
    const status = state.retriedStatus;
    throw new DecoError("harness_failed", `${how}${said}`, {
      extensions: { exitCode: exit.code, ...(status === undefined ? {} : { status }) },
    });
  }
  if (result.isError) throw resultError(result, state, exit);
  return { output: result.text, exitCode: exit.code, usage: result.usage };
}

function resultError(result: ClaudeResult, state: ClaudeState, exit: ChildExit): DecoError {
  const { usage, subtype, text } = result;
  const status = result.apiStatus ?? state.retriedStatus;
  const extensions = { exitCode: exit.code, usage, ...(status === undefined ? {} : { status }) };
  if (result.apiStatus !== undefined) {
    const detail = `the model answered ${result.apiStatus}: ${text}`;
    return new DecoError("model_failed", detail, { extensions });
  }
  if (subtype === "error_max_turns") {
    const fix = "Raise options.maxSteps.";
    return new DecoError("budget_exceeded", "the most steps were taken", { fix, extensions });
  }
  return new DecoError("harness_failed", text === "" ? `claude: ${subtype}` : text, { extensions });
}
