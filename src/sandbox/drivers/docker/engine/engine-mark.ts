import { createHash } from "node:crypto";
import type { Engine } from "./engine.ts";
import { type EngineFacts, engineFacts } from "./engine-facts.ts";

/** Engines that this home has made sandboxes with; kept by the daemon over its restarts. */
export interface EngineMemory {
  /** Marks, as {@link markOf} makes them. */
  known(): readonly string[];
  /** Notes that a sandbox is made with this one now. Never throws. */
  use(engine: { mark: string; address: string }): Promise<void>;
}

/**
 * 12 hex digits that stand for one engine, wherever its socket is. Two engines of one machine may
 * have one ID (20.10 takes it from /etc/docker), never one folder; Podman's ID is another one with
 * each question.
 */
export function markOf({ kind, id, rootDir }: EngineFacts): string {
  const own = kind === "podman" ? [kind, rootDir] : [kind, id, rootDir];
  return createHash("sha256").update(JSON.stringify(own)).digest("hex").slice(0, 12);
}

/** @throws docker_unavailable, sandbox_failed */
export async function askMark(engine: Engine, signal: AbortSignal): Promise<string> {
  const version = await engine.call("ask its version", (docker) => docker.version(), { signal });
  const info: unknown = await engine.call("ask its state", (docker) => docker.info(), { signal });
  return markOf(engineFacts(version, info));
}
