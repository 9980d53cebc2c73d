import type { Engine } from "../engine/engine.ts";
import { givenLabels, LABELS, networkOf } from "../names.ts";

interface Own {
  readonly engine: Engine;
  readonly instanceId: string;
}

/** The engine's filter for what this daemon's instance made; `more` are further labels. */
export function ownFilter({ instanceId }: Pick<Own, "instanceId">, ...more: readonly string[]) {
  return { label: [`${LABELS.instance}=${instanceId}`, ...more] };
}

/**
 * Containers of this daemon's instance, running or not, of every role: sandboxes, spares, pauses. By
 * label and name: an image that was made of a sandbox gives its labels to whatever the user makes of it.
 *
 * @throws docker_unavailable, sandbox_failed
 */
export async function listOwnContainers(own: Own, signal: AbortSignal, ...more: readonly string[]) {
  const filters = ownFilter(own, ...more);
  const found = await own.engine.call(
    "list containers",
    (docker, abortSignal) => docker.listContainers({ all: true, filters, abortSignal }),
    { signal },
  );
  const prefix = `/${networkOf(own.instanceId)}-`;
  return found
    .filter(({ Names }) => Names?.some((name) => name.startsWith(prefix)))
    .map((one) => ({ ...one, Labels: givenLabels(one.Labels) }));
}
