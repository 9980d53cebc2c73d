import { setTimeout as sleep } from "node:timers/promises";
import type Dockerode from "dockerode";
import { z } from "zod";
import { DecoError } from "../../../../protocol/errors.ts";
import { type Engine, orMissing, refusedStatus } from "../engine/engine.ts";
import { LABELS } from "../names.ts";

const Network = z.object({ Id: z.string(), Labels: z.record(z.string(), z.string()).nullish() });

interface Owner {
  readonly engine: Engine;
  readonly instanceId: string;
}

/**
 * Makes a network with this instance's label, or finds it.
 *
 * @returns its name
 * @throws sandbox_failed when one that is not ours has the name
 */
export async function ensureOwnNetwork(
  owner: Owner,
  order: Dockerode.NetworkCreateOptions,
  signal: AbortSignal,
): Promise<string> {
  const { engine, instanceId } = owner;
  const { Name } = order;
  const found = await lookUpNetwork(owner, Name, signal);
  if (found?.ours) return Name;
  if (found !== undefined) {
    throw new DecoError("sandbox_failed", `a network that is not ours is called ${Name}`, {
      fix: `Remove it: docker network rm ${Name}`,
    });
  }
  const Labels = { [LABELS.instance]: instanceId, ...order.Labels };
  const own = { ...order, Driver: "bridge", CheckDuplicate: true, Labels };
  try {
    await engine.call("create a network", (docker) => docker.createNetwork(own), { signal });
  } catch (thrown) {
    // A create that was cut off before had made it all the same.
    if (refusedStatus(thrown) !== 409) throw thrown;
  }
  return Name;
}

/** Undefined when there is none. */
export async function lookUpNetwork(
  { engine, instanceId }: Owner,
  name: string,
  signal: AbortSignal,
): Promise<{ id: string; ours: boolean } | undefined> {
  const found: unknown = await orMissing(
    engine.call("inspect a network", (docker) => docker.getNetwork(name).inspect(), { signal }),
  );
  const parsed = Network.safeParse(found);
  if (!parsed.success) return undefined;
  const { Id: id, Labels: labels } = parsed.data;
  return { id, ours: labels?.[LABELS.instance] === instanceId };
}

/**
 * Gone already is success. An engine that just removed containers may still be busy with their ends
 * of the network: it gets a second.
 */
export async function removeNetwork(
  { engine }: Pick<Owner, "engine">,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  const remove = () =>
    orMissing(
      engine.call("remove a network", (docker) => docker.getNetwork(name).remove(), { signal }),
    );
  for (const waitMs of [50, 200, 1_000]) {
    try {
      await remove();
      return;
    } catch (thrown) {
      if (refusedStatus(thrown) !== 403) throw thrown;
      await sleep(waitMs, undefined, { signal });
    }
  }
  await remove();
}
