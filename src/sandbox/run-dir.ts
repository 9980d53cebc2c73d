import { createHash, randomBytes } from "node:crypto";
import {
  chmod,
  chown,
  lchown,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import type { ProviderName } from "../protocol/messages.ts";

/** What the daemon keeps of one sandbox, outside of what the sandbox sees. */
export const SandboxRecord = z.object({
  handle: z.string(),
  provider: z.string(),
  token: z.string(),
  createdAt: z.string(),
  specHash: z.string(),
  /** Whose it is, as in the provider's context. */
  owner: z.string().optional(),
  /** Owner of harnessd's socket as this machine sees it. */
  uid: z.int(),
  /** The harness adapters that harnessd named when it became ready. */
  harnesses: z.array(z.string()).default([]),
  /** Driver's own facts (pid, start time, …). */
  extra: z.record(z.string(), z.unknown()).default({}),
});
export type SandboxRecord = z.infer<typeof SandboxRecord>;

/** Longest path of a unix socket on macOS, the shorter of all (sun_path, 104 with its zero). */
const SOCKET_PATH_BYTES = 103;

/**
 * The directories of one sandbox under the daemon's run root:
 *
 * ```
 * <run root>/<10 hex digits: hash of provider and handle>/   0711, the daemon's
 *   sandbox.json   0600, SandboxRecord
 *   run/           /run/deco inside: harnessd.sock, model.sock, token; the sandbox's uid may write
 *                  there until harnessd is ready, see sealRunDir
 * ```
 */
export interface RunDir {
  readonly base: string;
  readonly run: string;
  readonly record: string;
}

export function runDirOf(runRoot: string, provider: ProviderName, handle: string): RunDir {
  // Both providers may have a sandbox of that handle.
  const name = createHash("sha256").update(`${provider}/${handle}`).digest("hex").slice(0, 10);
  const base = join(runRoot, name);
  const run = join(base, "run");
  const bytes = Buffer.byteLength(join(run, "harnessd.sock"));
  if (bytes > SOCKET_PATH_BYTES) {
    throw new DecoError("isolation_unavailable", `${run} is too long for a unix socket's path`, {
      fix: "Use a shorter DECO_HOME or XDG_RUNTIME_DIR.",
    });
  }
  return { base, run, record: join(base, "sandbox.json") };
}

/** 32 random bytes, base64url: harnessd's bearer token. */
export const newToken = () => randomBytes(32).toString("base64url");

/**
 * Makes the directory that the sandbox sees, with harnessd's token in it.
 *
 * @param uid owner inside; chown needs root, else it must be the daemon's own.
 */
export async function makeRunDir(dir: RunDir, o: { uid: number; token: string }): Promise<void> {
  await mkdir(dir.base, { recursive: true, mode: 0o711 });
  await chmod(dir.base, 0o711);
  await mkdir(dir.run, { mode: 0o700 });
  if (process.getuid?.() === 0) await chown(dir.run, o.uid, o.uid);
  await writeToken(dir, o);
}

/**
 * Readies the directory for another start: open to the sandbox's uid, a token again, no socket that
 * nobody listens on, and nothing else that a guest left. The model proxy's socket stays. Nothing
 * inside may run any more.
 */
export async function renewRunDir(dir: RunDir, o: { uid: number; token: string }): Promise<void> {
  await mkdir(dir.base, { recursive: true, mode: 0o711 });
  await mkdir(dir.run, { recursive: true, mode: 0o700 });
  await clearRunDir(dir, new Set(["model.sock"]));
  await chmod(dir.run, 0o700);
  if (process.getuid?.() === 0) await chown(dir.run, o.uid, o.uid);
  await writeToken(dir, o);
}

const SOCKETS: ReadonlySet<string> = new Set(["harnessd.sock", "model.sock"]);

/**
 * Once harnessd is ready, nothing inside needs to write there any more: root takes the directory
 * away from the guest, which could fill the host's disk through it, or swap the sockets. Without
 * root it has the daemon's own uid, and stays open; what else lies there is removed.
 *
 * @returns false when the directory is gone
 */
export async function sealRunDir(dir: RunDir): Promise<boolean> {
  try {
    if (process.getuid?.() === 0) {
      await chown(dir.run, 0, 0);
      await chmod(dir.run, 0o711);
    }
    await clearRunDir(dir, SOCKETS);
    return true;
  } catch (thrown) {
    if (await lstat(dir.run).catch(() => undefined)) throw thrown;
    return false;
  }
}

/** Removes all but the sockets of these names; links are not followed. */
async function clearRunDir(dir: RunDir, kept: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(dir.run)) {
    const path = join(dir.run, name);
    const stays = kept.has(name) && (await lstat(path).catch(() => undefined))?.isSocket();
    if (!stays) await rm(path, { recursive: true, force: true });
  }
}

async function writeToken(dir: RunDir, o: { uid: number; token: string }): Promise<void> {
  const path = join(dir.run, "token");
  // wx: never through a link that the sandbox made.
  await writeFile(path, o.token, { mode: 0o600, flag: "wx" });
  if (process.getuid?.() === 0) await lchown(path, o.uid, o.uid);
}

/** Written whole or not at all: a daemon that dies in between finds the old one. */
export async function writeRecord(dir: RunDir, record: SandboxRecord): Promise<void> {
  const work = `${dir.record}.${randomBytes(4).toString("hex")}`;
  await writeFile(work, JSON.stringify(record), { mode: 0o600 });
  await rename(work, dir.record);
}

export async function readRecord(dir: RunDir): Promise<SandboxRecord | undefined> {
  const text = await readFile(dir.record, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return SandboxRecord.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Every readable record under the run root. */
export async function listRecords(runRoot: string): Promise<SandboxRecord[]> {
  const entries = await readdir(runRoot, { withFileTypes: true }).catch(() => []);
  const records: SandboxRecord[] = [];
  for (const entry of entries) {
    // It names another one a second time.
    if (entry.isSymbolicLink()) continue;
    const base = join(runRoot, entry.name);
    const record = await readRecord({
      base,
      run: join(base, "run"),
      record: join(base, "sandbox.json"),
    });
    if (record !== undefined) records.push(record);
  }
  return records;
}

/**
 * Moves all of one sandbox's directory to another's place, for a container that was made ahead; a
 * link stays, because the engine goes by the old path at the next start.
 */
export async function moveRunDir(from: RunDir, to: RunDir): Promise<void> {
  await removeRunDir(to);
  await rename(from.base, to.base);
  await linkRunDir(from, to);
}

/** Makes the old path of a moved directory lead to it, whatever stands there. */
export async function linkRunDir(from: RunDir, to: RunDir): Promise<void> {
  await removeRunDir(from);
  await symlink(basename(to.base), from.base);
}

/** Removes everything of the sandbox on disk; links inside are not followed. */
export async function removeRunDir(dir: RunDir): Promise<void> {
  await rm(dir.base, { recursive: true, force: true });
}
