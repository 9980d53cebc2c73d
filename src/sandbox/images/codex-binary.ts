import { join } from "node:path";
import { ensureNpmFiles } from "./npm-package.ts";
import type { RootfsEntry } from "./rootfs.ts";
import { npmArch, type Target } from "./target.ts";

/** Pinned: flags and protocol of `codex app-server` change between versions. */
export const CODEX_VERSION = "0.169.0";

const HOME = "/usr/local/lib/codex";

/**
 * The native `codex` with its `rg`, fetched from npm once; both are static. Its layout is kept: it
 * finds the rest beside itself. Left out (110 MB): voice, its code mode's host, and its bubblewrap,
 * which can't work below an engine's seccomp profile.
 *
 * @throws image_missing when npm can't fetch it
 */
export async function codexEntries(
  cacheDir: string,
  target: Target,
  signal: AbortSignal,
): Promise<RootfsEntry[]> {
  const cpu = npmArch(target) === "arm64" ? "aarch64" : "x86_64";
  const vendor = `vendor/${cpu}-unknown-linux-musl`;
  const files = ["bin/codex", "codex-path/rg", "codex-package.json"] as const;
  const wanted = {
    name: "@openai/codex",
    version: `${CODEX_VERSION}-linux-${npmArch(target)}`,
    files: [`${vendor}/bin/codex`, ...files.slice(1).map((path) => `${vendor}/${path}`)],
  } as const;
  const home = await ensureNpmFiles(wanted, cacheDir, signal);
  return [
    ...files.map((path): RootfsEntry => {
      const mode = path.endsWith(".json") ? 0o644 : 0o755;
      return { type: "file", path: `${HOME}/${path}`, mode, from: join(home, vendor, path) };
    }),
    { type: "link", path: "/usr/local/bin/codex", target: `${HOME}/bin/codex` },
    { type: "link", path: "/usr/local/bin/rg", target: `${HOME}/codex-path/rg` },
  ];
}
