import { setTimeout as sleep } from "node:timers/promises";
import { DecoError, type ErrorCode } from "../../protocol/errors.ts";
import { type HarnessClient, harnessClient } from "../../sandbox/harness-client.ts";
import type { SandboxInfo } from "../../sandbox/provider.ts";
import type { RunRecord } from "../journal.ts";
import type { LiveRun } from "./live-run.ts";
import type { ExecutorParts } from "./parts.ts";
import { onLeg } from "./run-failure.ts";
import { harnessRunOf } from "./start-harness.ts";

const ENGINE_RETRY_IN_MS = 1000;
/** Answers of a provider that are facts; any other error may be over in a second. */
const GONE: ReadonlySet<ErrorCode> = new Set(["sandbox_lost", "sandbox_not_found"]);

/**
 * Finds sandbox and harness of a run that an earlier daemon started. An engine that does not answer
 * is waited for: it proves nothing (LESSONS 27).
 *
 * @throws LegError sandbox_lost
 */
export async function findSandbox(
  parts: ExecutorParts,
  live: LiveRun,
  record: RunRecord,
): Promise<void> {
  await onLeg("sandbox", "sandbox_lost", async () => {
    const { info, client } = await look(parts, live);
    parts.modelProxy.grant(record.runId);
    live.sandbox = info;
    await parts.sandboxes.reopen(live.provider, info, live.signal);
    const runId = record.harnessRunId ?? (await harnessRunOf(parts, live, client));
    live.harness = { client, runId };
  });
}

async function look(
  { log }: ExecutorParts,
  { provider, handle, signal }: LiveRun,
): Promise<{ info: SandboxInfo; client: HarnessClient }> {
  for (;;) {
    signal.throwIfAborted();
    try {
      const info = await provider.inspect(handle, signal);
      if (info === undefined || info.status === "stopped") {
        throw new DecoError("sandbox_lost", `sandbox ${handle} ended while the daemon was away`);
      }
      const client = harnessClient(await provider.endpoint(handle, signal));
      if (info.status === "running") return { info, client };
    } catch (thrown) {
      signal.throwIfAborted();
      const error = DecoError.from(thrown, "docker_unavailable");
      if (GONE.has(error.code)) throw error;
      log.info({ err: error, handle, provider: provider.name }, "the engine is silent; again");
    }
    await sleep(ENGINE_RETRY_IN_MS, undefined, { signal });
  }
}
