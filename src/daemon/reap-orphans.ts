import type { Orphan, SandboxProvider } from "../sandbox/provider.ts";
import { isThreadless } from "./close-sandboxes.ts";
import type { Log } from "./log.ts";

interface ReapOptions {
  readonly busy: (handle: string) => boolean;
  readonly log: Log;
}

/**
 * Removes what daemons that died left behind, but no workspace of a thread: that is for
 * `deco sandbox prune` to say, and its owner to decide. One that can't be removed is tried again by
 * the next look.
 *
 * @throws what the provider throws when it can't look
 */
export async function reapOrphans(
  provider: SandboxProvider,
  { busy, log }: ReapOptions,
  signal: AbortSignal,
): Promise<number> {
  let removed = 0;
  for (const orphan of (await provider.orphans?.(signal)) ?? []) {
    const { kind, name, handle, reason } = orphan;
    if (!isNobodys(orphan) || (handle !== undefined && busy(handle))) continue;
    try {
      await provider.removeOrphan?.(orphan, signal);
      removed += 1;
      log.info({ kind, name, handle, reason }, "left behind: removed");
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ err: error, kind, name }, "left behind, and stays; again in a minute");
    }
  }
  return removed;
}

function isNobodys({ kind, handle }: Orphan): boolean {
  return kind !== "volume" || (handle !== undefined && isThreadless(handle));
}
