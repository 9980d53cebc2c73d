import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { constants } from "node:os";
import type { Readable } from "node:stream";
import { DecoError } from "../protocol/errors.ts";

/** What to start. */
export interface ChildOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Text for its standard input, which is closed behind it; none: /dev/null. */
  readonly stdin?: string;
  /**
   * The program writes this to its output and its error output behind all that it has to say, then
   * an exit code and a newline to its descriptor 3, which counts instead of its own.
   */
  readonly endMark?: string;
}

/** How it ended: `code` is 128 + the signal's number when a signal ended it, as shells say it. */
export interface ChildExit {
  readonly code: number;
  readonly signal?: string;
  /** By descriptor 3: the marks are on their way. */
  readonly reported?: true;
}

/** A program in a process group and session of its own, so that all it starts can be ended with it. */
export interface Child {
  readonly pid: number;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly endMark?: string;
  readonly exited: Promise<ChildExit>;
}

/**
 * Starts a program.
 *
 * @throws harness_missing when it isn't there, harness_failed when it can't be started
 */
export async function startChild(options: ChildOptions): Promise<Child> {
  const spawnOptions: SpawnOptions = {
    cwd: options.cwd,
    env: { ...options.env },
    detached: true,
    stdio: [
      options.stdin === undefined ? "ignore" : "pipe",
      "pipe",
      "pipe",
      ...(options.endMark !== undefined ? (["pipe"] as const) : []),
    ],
  };
  const child = start(options, spawnOptions);
  const exited = new Promise<ChildExit>((resolve) => {
    child.once("exit", (code, signal) => resolve(exitOf(code, signal)));
    child.stdio[3]?.once("data", (bytes: Buffer) =>
      resolve({ code: Number(bytes.toString()), reported: true }),
    );
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (error) => reject(startError(options.command, error)));
  });
  // A program that ends before it has read all breaks the pipe; its exit code says the rest.
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(options.stdin);
  const { pid, stdout, stderr } = child;
  const { endMark } = options;
  if (pid === undefined || !stdout || !stderr) {
    throw new DecoError("harness_failed", `${options.command} has no pipes`);
  }
  return { pid, stdout, stderr, exited, ...(endMark === undefined ? {} : { endMark }) };
}

function start(options: ChildOptions, spawnOptions: SpawnOptions): ChildProcess {
  try {
    return spawn(options.command, options.args, spawnOptions);
  } catch (error) {
    throw startError(options.command, error);
  }
}

function startError(command: string, error: unknown): DecoError {
  const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
  const message = error instanceof Error ? error.message : String(error);
  return new DecoError(
    missing ? "harness_missing" : "harness_failed",
    `${command} can't be started: ${message}`,
    { cause: error },
  );
}

function exitOf(code: number | null, signal: NodeJS.Signals | null): ChildExit {
  if (signal === null) return { code: code ?? 0 };
  return { code: 128 + (constants.signals[signal] ?? 0), signal };
}
