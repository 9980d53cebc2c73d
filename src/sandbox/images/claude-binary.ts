import { join } from "node:path";
import { ensureNpmFiles } from "./npm-package.ts";
import { npmArch, type Target } from "./target.ts";

/** Pinned: the way it reaches its model through a socket is undocumented. */
export const CLAUDE_VERSION = "2.1.197";

/**
 * The native `claude`, fetched from npm once.
 *
 * @returns path of the executable
 * @throws image_missing when npm can't fetch it
 */
export async function ensureClaude(
  cacheDir: string,
  target: Target,
  signal: AbortSignal,
): Promise<string> {
  const musl = target.libc === "musl" ? "-musl" : "";
  const name = `@anthropic-ai/claude-code-linux-${npmArch(target)}${musl}`;
  const wanted = { name, version: CLAUDE_VERSION, files: ["claude"] } as const;
  return join(await ensureNpmFiles(wanted, cacheDir, signal), "claude");
}
