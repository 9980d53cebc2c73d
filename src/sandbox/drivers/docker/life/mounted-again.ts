import { type BigIntStats, realpathSync, statSync } from "node:fs";
import { DecoError } from "../../../../protocol/errors.ts";
import { execIn } from "../container/exec.ts";
import type { ContainerLook } from "../container/look.ts";
import { type Job, look } from "../job.ts";

const WORKSPACE = "/workspace";
const INSIDE_MS = 10_000;

/** Device and inode, as numbers of this kernel. */
type Place = `${bigint}:${bigint}`;

/**
 * A folder may have been swapped for a link between the check of its path and the mount. Where the
 * engine runs on this kernel, what is mounted is compared itself: by the process's root, and where
 * that can't be read (another user's process) by the word of the sandbox's own `stat`, which a hostile
 * image can forge. Who can't be asked is refused. In a VM the path alone is looked at.
 *
 * @returns undefined for a volume
 * @throws policy_denied
 */
export async function mountedAgain(job: Job): Promise<ContainerLook | undefined> {
  const { mode, path = "" } = job.wanted.workspace;
  if (mode !== "read_only" && mode !== "read_write") return undefined;
  const found = await look(job, job.signal);
  const outside = placeOf(path);
  if (outside === undefined || realpathSync.native(path) !== path) throw swapped(path);
  const { procRoot = "/proc", seen } = job.setup;
  const inside = placeOf(`${procRoot}/${found?.initPid ?? 0}/root${WORKSPACE}`);
  if (inside === outside) return found;
  if (inside !== undefined) throw swapped(path);
  if (!(seen.sameKernel ?? process.platform === "linux")) return found;
  const said = found === undefined ? undefined : await askInside(job, found.id);
  if (said === outside) return found;
  throw said === undefined ? unknown(path) : swapped(path);
}

function placeOf(path: string): Place | undefined {
  try {
    const { dev, ino }: BigIntStats = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

async function askInside({ setup, signal }: Job, containerId: string): Promise<string | undefined> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(INSIDE_MS)]);
  const command = ["stat", "-c", "%d:%i", WORKSPACE];
  let said = "";
  try {
    for await (const chunk of execIn({ ...setup, containerId, command, signal: within })) {
      if ("content" in chunk && chunk.stream === "stdout")
        said = `${said}${chunk.content}`.slice(0, 100);
    }
  } catch {
    signal.throwIfAborted();
  }
  return /^\d+:\d+$/.test(said.trim()) ? said.trim() : undefined;
}

function swapped(path: string): DecoError {
  return new DecoError("policy_denied", `${path} was swapped while it was mounted`, {
    fix: "See what replaces that folder by a link; then start the run again.",
  });
}

function unknown(path: string): DecoError {
  return new DecoError("policy_denied", `nobody can tell whether ${path} is what was mounted`, {
    fix: "Use an image with `stat` (ours have it), or run the daemon as root or as the engine's user.",
  });
}
