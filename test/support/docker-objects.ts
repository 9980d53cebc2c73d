import Docker from "dockerode";

/** What an engine holds of one daemon instance, as names to compare. */
export interface DockerObjects {
  /** Sandboxes with their volumes. */
  readonly sandboxes: string[];
  /** Containers that only hold a network. */
  readonly pauses: string[];
  readonly networks: string[];
}

const isPause = (labels: Readonly<Record<string, string>>) =>
  labels["dev.deco-link.role"] === "pause";

/** By label. */
export async function dockerObjects(
  instanceId: string,
  docker = new Docker({ socketPath: "/var/run/docker.sock", host: "" }),
): Promise<DockerObjects> {
  const filters = { label: [`dev.deco-link.instance=${instanceId}`] };
  const text = JSON.stringify(filters);
  const containers = await docker.listContainers({ all: true, filters });
  const { Volumes: volumes } = await docker.listVolumes({ filters: text });
  const networks = await docker.listNetworks({ filters: text });
  const names = (pauses: boolean) =>
    containers.filter(({ Labels }) => isPause(Labels) === pauses).map(({ Names }) => Names.join());
  return {
    sandboxes: [...names(false), ...(volumes ?? []).map(({ Name }) => Name)],
    pauses: names(true),
    networks: networks.map(({ Name }) => `network ${Name}`),
  };
}
