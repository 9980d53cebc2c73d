import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { DecoError } from "../../../protocol/errors.ts";
import type { SandboxLog } from "../../sandbox-log.ts";
import { Semaphore } from "../../semaphore.ts";
import { type Engine, orMissing, refusedStatus } from "./engine.ts";
import { LABELS, networkOf } from "./names.ts";

/**
 * The bridge of one daemon instance, on which its containers can't reach each other, nor those of
 * other networks. It is made with the first sandbox that needs one, and stays until the daemon
 * leaves: to make and remove it around a lone sandbox costs more than a tenth of a start.
 */
export interface InstanceNetwork {
  readonly name: string;
  /** Makes the network, or finds it. @returns its name @throws sandbox_failed: a foreign one has it */
  ensure(signal: AbortSignal): Promise<string>;
  /** Puts a stopped container of it that an owner's `docker network prune` cut off back into it. */
  rejoin(containerId: string, signal: AbortSignal): Promise<void>;
  /** Removes it when no container of this instance is left. Never throws. */
  removeIfUnused(signal: AbortSignal): Promise<void>;
}

const Network = z.object({ Id: z.string(), Labels: z.record(z.string(), z.string()).nullish() });

interface NetworkOptions {
  readonly engine: Engine;
  readonly instanceId: string;
  readonly log: SandboxLog;
}

export function instanceNetwork(options: NetworkOptions): InstanceNetwork {
  const { instanceId, log } = options;
  const name = networkOf(instanceId);
  const gate = new Semaphore(1);
  const ensure = (signal: AbortSignal) =>
    gate.run(signal, () => ensureNetwork(options, name, signal));
  const remove = async (signal: AbortSignal) => {
    if (await hasContainers(options, signal)) return;
    if (!(await lookUp(options, name, signal))?.ours) return;
    await removeSoon(options, name, signal);
  };
  return {
    name,
    ensure,
    rejoin: async (containerId, signal) => {
      await ensure(signal);
      await rejoin(options, { name, containerId }, signal);
    },
    removeIfUnused: async (signal) => {
      try {
        await gate.run(signal, () => remove(signal));
      } catch (thrown) {
        log.warn({ err: thrown, instanceId, network: name }, "the network stays for the next one");
      }
    },
  };
}

/** An engine that just removed containers may still be busy with their ends of the network. */
async function removeSoon(
  { engine }: NetworkOptions,
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

async function ensureNetwork(
  options: NetworkOptions,
  name: string,
  signal: AbortSignal,
): Promise<string> {
  const { engine, instanceId } = options;
  const found = await lookUp(options, name, signal);
  if (found?.ours) return name;
  if (found !== undefined) {
    throw new DecoError("sandbox_failed", `a network that is not ours is called ${name}`, {
      fix: `Remove it: docker network rm ${name}`,
    });
  }
  const order = {
    Name: name,
    CheckDuplicate: true,
    Driver: "bridge",
    Labels: { [LABELS.instance]: instanceId },
    Options: { "com.docker.network.bridge.enable_icc": "false" },
  };
  try {
    await engine.call("create a network", (docker) => docker.createNetwork(order), { signal });
  } catch (thrown) {
    // A create that was cut off before had made it all the same.
    if (refusedStatus(thrown) !== 409) throw thrown;
  }
  return name;
}

async function rejoin(
  options: NetworkOptions,
  { name, containerId }: { name: string; containerId: string },
  signal: AbortSignal,
): Promise<void> {
  const { engine } = options;
  const { HostConfig, NetworkSettings } = await engine.call(
    "inspect a container",
    (docker, abortSignal) => docker.getContainer(containerId).inspect({ abortSignal }),
    { signal },
  );
  if (HostConfig.NetworkMode !== name) return;
  const now = await lookUp(options, name, signal);
  const had = NetworkSettings.Networks[name];
  if (now === undefined || had?.NetworkID === now.id) return;
  const o = { signal };
  const Container = containerId;
  if (had !== undefined) {
    const order = { Container, Force: true };
    await engine.call("leave a network", (docker) => docker.getNetwork(name).disconnect(order), o);
  }
  await engine.call(
    "join a network",
    (docker) => docker.getNetwork(name).connect({ Container }),
    o,
  );
}

async function lookUp(
  { engine, instanceId }: NetworkOptions,
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

async function hasContainers({ engine, instanceId }: NetworkOptions, signal: AbortSignal) {
  const filters = { label: [`${LABELS.instance}=${instanceId}`] };
  const found = await engine.call(
    "list containers",
    (docker, abortSignal) => docker.listContainers({ all: true, filters, abortSignal }),
    { signal },
  );
  return found.length > 0;
}
