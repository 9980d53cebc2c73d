import { mkdir, mkdtemp, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { DecoError } from "../../protocol/errors.ts";
import { runCommand } from "../run-command.ts";

/** Pinned: the way it reaches its model through a socket is undocumented. */
export const CLAUDE_VERSION = "2.1.197";

const FETCH_TIMEOUT_MS = 300_000;

/**
 * The native `claude` of this machine's architecture, fetched from npm once.
 *
 * @returns path of the executable
 * @throws image_missing when npm can't fetch it
 */
export async function ensureClaude(cacheDir: string, signal: AbortSignal): Promise<string> {
  const name = `claude-code-linux-${process.arch === "arm64" ? "arm64" : "x64"}`;
  const home = join(cacheDir, "claude-code", `${CLAUDE_VERSION}-${process.arch}`);
  const path = join(home, "node_modules", "@anthropic-ai", name, "claude");
  if (await stat(path).catch(() => undefined)) return path;
  await mkdir(dirname(home), { recursive: true });
  const work = await mkdtemp(join(dirname(home), "fetch-"));
  try {
    await install(work, `@anthropic-ai/${name}@${CLAUDE_VERSION}`, signal);
    await rename(work, home).catch(async (thrown: unknown) => {
      // Another process was faster: its copy is as good.
      if (!(await stat(path).catch(() => undefined))) throw thrown;
    });
    return path;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function install(prefix: string, spec: string, signal: AbortSignal): Promise<void> {
  const result = await runCommand(
    [
      "npm",
      "install",
      "--prefix",
      prefix,
      "--no-save",
      "--ignore-scripts",
      "--no-audit",
      "--no-fund",
      spec,
    ],
    { cwd: prefix, signal: AbortSignal.any([signal, AbortSignal.timeout(FETCH_TIMEOUT_MS)]) },
  );
  if (result.exitCode === 0) return;
  throw new DecoError("image_missing", `npm can't fetch ${spec}: ${lastLine(result.stderr)}`, {
    fix: "Check the network and npm's registry, then run `deco image build`.",
  });
}

const lastLine = (text: string) => text.trim().split("\n").slice(-3).join(" ");
