import type { SandboxLog } from "../../../sandbox-log.ts";
import { Semaphore } from "../../../semaphore.ts";
import { listOwnContainers } from "../container/own-containers.ts";
import type { Engine } from "../engine/engine.ts";
import { networkOf } from "../names.ts";
import { ensureOwnNetwork, lookUpNetwork, removeNetwork } from "./own-network.ts";

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

interface NetworkOptions {
  readonly engine: Engine;
  readonly instanceId: string;
  readonly log: SandboxLog;
}

export function instanceNetwork(options: NetworkOptions): InstanceNetwork {
  const { instanceId, log } = options;
  const name = networkOf(instanceId);
  const order = { Name: name, Options: { "com.docker.network.bridge.enable_icc": "false" } };
  const gate = new Semaphore(1);
  const ensure = (signal: AbortSignal) =>
    gate.run(signal, () => ensureOwnNetwork(options, order, signal));
  const remove = async (signal: AbortSignal) => {
    if (await hasContainers(options, signal)) return;
    if (!(await lookUpNetwork(options, name, signal))?.ours) return;
    await removeNetwork(options, name, signal);
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
  const now = await lookUpNetwork(options, name, signal);
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

async function hasContainers(own: NetworkOptions, signal: AbortSignal) {
  return (await listOwnContainers(own, signal)).length > 0;
}
