import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { RunDir } from "../../run-dir.ts";
import type { SandboxLog } from "../../sandbox-log.ts";

export interface ProcessProviderOptions {
  readonly instanceId: string;
  /** Directory of the sandboxes' run directories and workspaces; short. */
  readonly runRoot: string;
  /** Directory of built binaries. */
  readonly cacheDir: string;
  readonly log: SandboxLog;
  /** Where nothing can confine: run harnessd as a plain child all the same. */
  readonly allowUnconfined?: boolean;
  /** Until a started harnessd must answer; 30,000. */
  readonly readyTimeoutMs?: number;
}

/** Name of a sandbox's cgroups: they are found by it even when its directory was wiped. */
export function cgroupName(instanceId: string, dir: RunDir): string {
  return `${instanceId.replace(/[^a-zA-Z0-9]/g, "")}-${basename(dir.base)}`;
}

/** The user of one sandbox: above every range that systems hand out, and in no passwd file. */
export function uidOf(instanceId: string, handle: string): number {
  const hash = createHash("sha256").update(`${instanceId}\0${handle}`).digest();
  return 2_000_000_000 + hash.readUIntBE(0, 3);
}

export async function lastLines(path: string, lines: number): Promise<string> {
  const text = await readFile(path, "utf8").catch(() => "");
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}
