import type { SandboxLog } from "../../../sandbox-log.ts";
import { Semaphore } from "../../../semaphore.ts";
import { listOwnContainers, ownFilter } from "../container/own-containers.ts";
import type { Engine } from "../engine/engine.ts";
import { LABELS, networkOf } from "../names.ts";
import { ensureOwnNetwork, lookUpNetwork, removeNetwork } from "./own-network.ts";

/** How one sandbox stands on the network of its thread. */
export interface ThreadPlace {
  readonly key: string;
  /** Names by which the others reach it. */
  readonly names: readonly string[];
}

/**
 * The private networks of threads: sandboxes of one thread reach each other by name, and nobody
 * else. There is no way out of one, nor to this machine: what else a sandbox reaches is its egress's.
 */
export interface ThreadNetworks {
  /** Makes the thread's network, or finds it. @returns its name */
  ensure(key: string, signal: AbortSignal): Promise<string>;
  /** Puts a container that does not run on it, also again where the network was made anew. */
  join(containerId: string, place: ThreadPlace, signal: AbortSignal): Promise<void>;
  /** Removes it when no sandbox of the thread is left. Never throws. */
  removeIfUnused(key: string, signal: AbortSignal): Promise<void>;
  /** The same for every one of this instance. Never throws. */
  removeUnused(signal: AbortSignal): Promise<void>;
}

interface Options {
  readonly engine: Engine;
  readonly instanceId: string;
  readonly log: SandboxLog;
}

export function threadNetworks(options: Options): ThreadNetworks {
  const { instanceId, log } = options;
  // One at a time: what makes a network must not meet what removes it.
  const gate = new Semaphore(1);
  const nameOf = (key: string) => `${networkOf(instanceId)}-t-${key}`;
  const removeUnused = async (keys: readonly string[], signal: AbortSignal) => {
    const used = await usedKeys(options, signal);
    const unused = keys.filter((key) => !used.has(key));
    await Promise.all(unused.map((key) => removeNetwork(options, nameOf(key), signal)));
  };
  const quietly = async (work: Promise<void>) => {
    await work.catch((thrown: unknown) => {
      log.warn({ err: thrown, instanceId }, "a thread's network stays; it is looked at again");
    });
  };
  return {
    ensure: (key, signal) =>
      gate.run(signal, () => ensureNetwork(options, { name: nameOf(key), key }, signal)),
    join: async (containerId, place, signal) => {
      await gate.run(signal, async () => {
        const name = await ensureNetwork(
          options,
          { name: nameOf(place.key), key: place.key },
          signal,
        );
        await join(options, { containerId, name, names: place.names }, signal);
      });
    },
    removeIfUnused: (key, signal) => quietly(gate.run(signal, () => removeUnused([key], signal))),
    removeUnused: (signal) =>
      quietly(gate.run(signal, async () => removeUnused(await ownKeys(options, signal), signal))),
  };
}

function ensureNetwork(
  options: Options,
  { name, key }: { name: string; key: string },
  signal: AbortSignal,
): Promise<string> {
  const order = {
    Name: name,
    // No route out of it, and no address of this machine on it.
    Internal: true,
    Options: { "com.docker.network.bridge.inhibit_ipv4": "true" },
    Labels: { [LABELS.network]: key },
  };
  return ensureOwnNetwork(options, order, signal);
}

/** An endpoint on a network that is gone is left first: the engine would not start the container. */
async function join(
  options: Options,
  o: { containerId: string; name: string; names: readonly string[] },
  signal: AbortSignal,
): Promise<void> {
  const { containerId: Container, name, names } = o;
  const { engine } = options;
  const now = await lookUpNetwork(options, name, signal);
  const { NetworkSettings } = await engine.call(
    "inspect a container",
    (docker, abortSignal) => docker.getContainer(Container).inspect({ abortSignal }),
    { signal },
  );
  const had = NetworkSettings.Networks[name];
  // One that never started names no network yet.
  if (had !== undefined && (had.NetworkID === "" || had.NetworkID === now?.id)) return;
  const leave = { Container, Force: true };
  const enter = { Container, EndpointConfig: { Aliases: [...names] } };
  if (had !== undefined) {
    await engine.call("leave a network", (d) => d.getNetwork(name).disconnect(leave), { signal });
  }
  await engine.call("join a network", (d) => d.getNetwork(name).connect(enter), { signal });
}

/** Keys of the threads' networks that are there. */
async function ownKeys(own: Options, signal: AbortSignal): Promise<string[]> {
  const filters = ownFilter(own, LABELS.network);
  const found = await own.engine.call(
    "list networks",
    (docker) => docker.listNetworks({ filters: JSON.stringify(filters) }),
    { signal },
  );
  return found.map(({ Labels }) => Labels?.[LABELS.network] ?? "");
}

/** Keys that a sandbox has, running or not. */
async function usedKeys(own: Options, signal: AbortSignal) {
  const found = await listOwnContainers(own, signal, LABELS.network);
  return new Set(found.map(({ Labels }) => Labels[LABELS.network] ?? ""));
}
