import type { Engine } from "./engine.ts";
import { LABELS } from "./names.ts";

interface Own {
  readonly engine: Engine;
  readonly instanceId: string;
}

/** The engine's filter for what this daemon's instance made; `more` are further labels. */
export function ownFilter({ instanceId }: Pick<Own, "instanceId">, ...more: readonly string[]) {
  return { label: [`${LABELS.instance}=${instanceId}`, ...more] };
}

/**
 * Containers of this daemon's instance, running or not, of every role: sandboxes, spares, pauses.
 *
 * @throws docker_unavailable, sandbox_failed
 */
export async function listOwnContainers(own: Own, signal: AbortSignal, ...more: readonly string[]) {
  const filters = ownFilter(own, ...more);
  return await own.engine.call(
    "list containers",
    (docker, abortSignal) => docker.listContainers({ all: true, filters, abortSignal }),
    { signal },
  );
}
