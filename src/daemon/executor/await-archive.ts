import { setTimeout as sleep } from "node:timers/promises";
import { DecoError } from "../../protocol/errors.ts";
import type { SandboxProvider } from "../../sandbox/provider.ts";
import type { ResolvedSpec } from "../../sandbox/sandbox-spec.ts";

/** Whoever dispatched the run sends its files; one that went away does not hold a sandbox for ever. */
const WAIT_MS = 600_000;
const LOOK_EVERY_MS = 100;

/**
 * Waits until the archive that a run begins with is in its sandbox: the one of its name, else any.
 * What came is noted on disk, so a daemon that starts anew need not be sent it again.
 *
 * @param say called once, when there is something to wait for
 * @throws workspace_failed when none came in time, isolation_unavailable
 */
export async function awaitArchive(o: {
  readonly provider: SandboxProvider;
  readonly handle: string;
  readonly spec: ResolvedSpec;
  readonly say: () => void;
  readonly signal: AbortSignal;
  readonly waitMs?: number;
}): Promise<void> {
  const { provider, handle, spec, signal, waitMs = WAIT_MS } = o;
  if (spec.workspace?.mode !== "archive") return;
  const { ref } = spec.workspace;
  const { files } = provider;
  if (files === undefined) {
    throw new DecoError("isolation_unavailable", `${provider.name} sandboxes take no archives`);
  }
  const isThere = async () => {
    const last = await files.lastArchive(handle);
    return ref === undefined ? last !== undefined : last === ref;
  };
  if (await isThere()) return;
  o.say();
  const until = performance.now() + waitMs;
  while (!(await isThere())) {
    if (performance.now() > until) {
      throw new DecoError("workspace_failed", `no archive came within ${waitMs / 1000} s`, {
        fix: "Send it: PUT /api/runs/{id}/archive, as `deco run --sync` does.",
      });
    }
    await sleep(LOOK_EVERY_MS, undefined, { signal });
  }
}
