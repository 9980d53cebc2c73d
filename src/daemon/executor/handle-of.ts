import { createHash } from "node:crypto";
import type { DispatchRun, ProviderName } from "../../protocol/messages.ts";
import { OWNERS } from "../../sandbox/owner.ts";

/**
 * The sandbox of a run: one per user, thread, branch and provider, so that a thread finds its files
 * again; a run without a thread has one of its own.
 */
export function handleOf(dispatch: DispatchRun, provider: ProviderName): string {
  const { runId, user = "", thread, branch = "" } = dispatch;
  if (thread === undefined) return `r-${digest([runId])}`;
  return `t-${digest([user, thread, branch, provider])}`;
}

/** Whose the sandbox of a run is. Over the laptop's own socket a run that names nobody is `@local`. */
export function ownerOf({ user }: DispatchRun): string {
  return user ?? OWNERS.hub;
}

function digest(parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}
