import { spawn } from "node:child_process";

export interface CommandResult {
  /** 128 + signal number is not invented: -1 when a signal ended it. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Kills the command (SIGKILL). */
  readonly signal: AbortSignal;
  /** The whole environment; inherited when absent (for trusted tools such as npm only). */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

const OUTPUT_LIMIT_CHARS = 1024 * 1024;

/**
 * Runs one short program and collects what it prints (1 Mi characters at most of each).
 *
 * @throws what spawning throws (ENOENT), or the signal's reason
 */
export async function runCommand(
  argv: readonly [string, ...string[]],
  options: CommandOptions,
): Promise<CommandResult> {
  const { signal } = options;
  signal.throwIfAborted();
  const child = spawn(argv[0], argv.slice(1), {
    stdio: ["ignore", "pipe", "pipe"],
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  const onAbort = () => child.kill("SIGKILL");
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    const exitCode = await new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => resolve(code ?? -1));
    });
    signal.throwIfAborted();
    return { exitCode, stdout: stdout(), stderr: stderr() };
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function collect(stream: NodeJS.ReadableStream): () => string {
  let text = "";
  stream.setEncoding("utf8");
  stream.on("data", (chunk: string) => {
    if (text.length < OUTPUT_LIMIT_CHARS) text += chunk;
  });
  return () => text;
}
