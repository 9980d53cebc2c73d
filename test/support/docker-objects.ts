import Docker from "dockerode";

/** What an engine holds of one daemon instance, as names to compare. */
export interface DockerObjects {
  /** Sandboxes with their volumes. */
  readonly sandboxes: string[];
  /** Containers that only hold a network. */
  readonly pauses: string[];
  /** Sandboxes made ahead that are nobody's yet, with their volumes. */
  readonly spares: string[];
  readonly networks: string[];
}

type Labels = Readonly<Record<string, string>>;

const isPause = (labels: Labels) => labels["dev.deco-link.role"] === "pause";
/** A lease gives the container another name; its volume keeps the first. */
const isSpare = (name: string) => /^\/deco-[a-z0-9]+-w-[0-9a-f]{16}$/.test(name);

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
  const all = containers.map(({ Names, Labels }) => ({ name: Names.join(), labels: Labels }));
  const spares = all.filter(({ name }) => isSpare(name)).map(({ name }) => name);
  const ofSpare = (volume: string) => spares.includes(`/${volume.replace(/-workspace$/, "")}`);
  const others = all.filter(({ name }) => !isSpare(name));
  const allVolumes = (volumes ?? []).map(({ Name }) => Name);
  const names = (pauses: boolean) =>
    others.filter(({ labels }) => isPause(labels) === pauses).map(({ name }) => name);
  return {
    sandboxes: [...names(false), ...allVolumes.filter((name) => !ofSpare(name))],
    pauses: names(true),
    spares: [...spares, ...allVolumes.filter(ofSpare)],
    networks: networks.map(({ Name }) => `network ${Name}`),
  };
}
