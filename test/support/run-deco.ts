import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { builtCli } from "./built-cli.ts";
import { temporaryOf } from "./leftovers.ts";
import { madeAheadEnv } from "./made-ahead.ts";

export type Runtime = "bun" | "node";

/** How to start the program. `home` becomes DECO_HOME; nothing else of ours comes from outside. */
export interface DecoOptions {
  readonly runtime?: Runtime;
  readonly home: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  /** Ends a run that hangs; 120 s when absent. */
  readonly timeoutMs?: number;
}

export interface DecoResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The lines of stdout. */
  readonly lines: readonly string[];
}

/** Runs `deco` to its end: from source by Bun, or the built program by Node. */
export async function runDeco(args: readonly string[], options: DecoOptions): Promise<DecoResult> {
  await using deco = await startDeco(args, options);
  // Awaited here: a bare return would dispose it first.
  return await deco.ended;
}

/** A `deco` that runs. Disposing ends it by its pid, hard after 15 s. */
export interface RunningDeco extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly ended: Promise<DecoResult>;
  stdout(): string;
  stderr(): string;
  /** Waits until stdout and stderr, together, match; rejects when the program ends before. */
  until(pattern: RegExp): Promise<RegExpExecArray>;
}

export async function startDeco(
  args: readonly string[],
  options: DecoOptions,
): Promise<RunningDeco> {
  const [program, first] = await programOf(options.runtime ?? "bun");
  const temporary = temporaryOf(options.home);
  await mkdir(temporary, { recursive: true });
  const child = spawn(program, [first, ...args], {
    env: {
      ...outside(),
      DECO_HOME: options.home,
      TMPDIR: temporary,
      NO_COLOR: "1",
      ...madeAheadEnv,
      ...options.env,
    },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  const watchers = new Set<() => void>();
  const grow = (add: (text: string) => void) => (text: string) => {
    add(text);
    for (const watcher of watchers) watcher();
  };
  child.stdout.setEncoding("utf8").on(
    "data",
    grow((text) => (stdout += text)),
  );
  child.stderr.setEncoding("utf8").on(
    "data",
    grow((text) => (stderr += text)),
  );
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.stdin ?? "");
  const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? 120_000);
  const ended = once(child, "close").then(([code]): DecoResult => {
    clearTimeout(timer);
    for (const watcher of watchers) watcher();
    const lines = stdout.split("\n").filter((line) => line !== "");
    return { code: typeof code === "number" ? code : null, stdout, stderr, lines };
  });
  return {
    child,
    ended,
    stdout: () => stdout,
    stderr: () => stderr,
    until: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const found = pattern.exec(`${stdout}\n${stderr}`);
          const over = child.exitCode !== null || child.signalCode !== null;
          if (!found && !over) return;
          watchers.delete(look);
          if (found) resolve(found);
          else reject(new Error(`deco ended before ${pattern}:\n${stdout}\n${stderr}`));
        };
        watchers.add(look);
        look();
      }),
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGTERM");
      const hard = setTimeout(() => child.kill("SIGKILL"), 15_000);
      await ended;
      clearTimeout(hard);
    },
  };
}

async function programOf(runtime: Runtime): Promise<[string, string]> {
  if (runtime === "node") return ["node", await builtCli()];
  return [process.execPath, fileURLToPath(new URL("../../src/cli.ts", import.meta.url))];
}

/** The environment without settings and keys of whoever runs the tests. */
function outside(): Record<string, string> {
  const kept = Object.entries(process.env).filter(
    ([name, value]) => value !== undefined && !/^(DECO_|XDG_|ANTHROPIC_|OPENAI_|CLAUDE)/.test(name),
  );
  return Object.fromEntries(kept.map(([name, value]) => [name, value ?? ""]));
}
