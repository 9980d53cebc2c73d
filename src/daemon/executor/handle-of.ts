import { createHash } from "node:crypto";
import type { DispatchRun, ProviderName } from "../../protocol/messages.ts";

/**
 * The sandbox of a run: one per user, thread, branch and provider, so that a thread finds its files
 * again; a run without a thread has one of its own.
 */
export function handleOf(dispatch: DispatchRun, provider: ProviderName): string {
  const { runId, user = "", thread, branch = "" } = dispatch;
  if (thread === undefined) return `r-${digest([runId])}`;
  return `t-${digest([user, thread, branch, provider])}`;
}

function digest(parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}
