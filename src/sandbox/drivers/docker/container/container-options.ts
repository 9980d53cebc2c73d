import type Dockerode from "dockerode";
import { memoryMibOf, type WantedSandbox } from "../../../sandbox-spec.ts";
import { workspaceMount } from "../life/workspace.ts";
import { LABELS, type Names, NO_LABELS, ownerLabel, WARM_ROLE } from "../names.ts";
import { joining } from "../network/pause.ts";
import { type Place, threadNames } from "../network/place.ts";
import { HARNESS_PORT, type TierFacts, tierEnvironment, tierHostConfig } from "./tiers.ts";

export interface ContainerFacts {
  readonly names: Names;
  readonly handle: string;
  /** Made ahead, for nobody yet. */
  readonly spare: boolean;
  readonly instanceId: string;
  readonly wanted: WantedSandbox;
  readonly imageTag: string;
  /** Of its manifest, or its id. */
  readonly imageDigest?: string | undefined;
  readonly runDir: string;
  readonly createdAt: string;
  readonly thread?: string | undefined;
  readonly owner?: string | undefined;
  readonly harness?: string | undefined;
  /** Engines in a VM: host port of the model proxy. */
  readonly modelPort?: number | undefined;
  readonly gateway: boolean;
  readonly tier: TierFacts;
  readonly place: Place;
  /** What is /etc/hosts inside, where the engine makes none. */
  readonly hostsFile: string;
}

/** Everything that the engine is told about a sandbox (PROTOCOL.md, "Sandboxes"). */
export function containerOptions(facts: ContainerFacts): Dockerode.ContainerCreateOptions {
  return {
    name: facts.names.container,
    Image: facts.imageTag,
    ...(facts.wanted.platform === undefined ? {} : { platform: facts.wanted.platform }),
    User: `${facts.tier.user}:${facts.tier.user}`,
    WorkingDir: "/workspace",
    Env: environment(facts),
    Labels: labels(facts),
    // harnessd needs up to 12 s to end its runs.
    StopTimeout: 15,
    ...networkOptions(facts),
    HostConfig: { ...hostConfig(facts), ...networkHostConfig(facts) },
  };
}

/** What harnessd is told. The run's own environment comes with the run. */
function environment(facts: ContainerFacts): string[] {
  const { modelPort, gateway } = facts;
  return [
    `HARNESS_ADDR=${needsPort(facts) ? `0.0.0.0:${HARNESS_PORT}` : "off"}`,
    ...tierEnvironment(facts.tier),
    "HARNESS_LOG_MIB=128",
    ...(gateway && modelPort !== undefined
      ? [`HARNESS_MODEL_URL=http://host.docker.internal:${modelPort}`]
      : []),
  ];
}

function labels(facts: ContainerFacts): Record<string, string> {
  return {
    ...NO_LABELS,
    [LABELS.instance]: facts.instanceId,
    [LABELS.handle]: facts.handle,
    ...(facts.spare ? { [LABELS.role]: WARM_ROLE } : {}),
    [LABELS.spec]: facts.wanted.hash,
    [LABELS.created]: facts.createdAt,
    [LABELS.rundir]: facts.runDir,
    [LABELS.image]: facts.imageTag,
    ...(facts.imageDigest === undefined ? {} : { [LABELS.digest]: facts.imageDigest }),
    [LABELS.tier]: String(facts.wanted.tier),
    ...(facts.wanted.labels.length === 0 ? {} : { [LABELS.labels]: facts.wanted.labels.join(",") }),
    ...(facts.thread === undefined ? {} : { [LABELS.thread]: facts.thread }),
    ...ownerLabel(facts.owner),
    ...(facts.wanted.threadNetwork === undefined
      ? {}
      : { [LABELS.network]: facts.wanted.threadNetwork.key }),
  };
}

/** Where harnessd's socket does not reach the daemon, and there is a network, its port does. */
const needsPort = ({ gateway, place }: ContainerFacts) => gateway && place.kind === "network";

/**
 * Without a network the engine is told to keep out: its hook for network namespaces is half of a
 * container's start. runc still makes an empty namespace with loopback up.
 */
function networkOptions(facts: ContainerFacts): Partial<Dockerode.ContainerCreateOptions> {
  if (facts.place.kind === "none") return { NetworkDisabled: true };
  const ports = publishedPorts(facts).map((port) => [`${port}/tcp`, {}] as const);
  return {
    ...(ports.length === 0 ? {} : { ExposedPorts: Object.fromEntries(ports) }),
    ...threadEndpoint(facts),
  };
}

/** What the outside reaches on 127.0.0.1: harnessd where it must, and what was asked for. */
function publishedPorts(facts: ContainerFacts): number[] {
  return [...(needsPort(facts) ? [HARNESS_PORT] : []), ...facts.wanted.ports];
}

/** Names are given with the first network; a second one is joined after the container is made. */
function threadEndpoint({ place, handle, wanted }: ContainerFacts) {
  if (place.kind !== "thread") return {};
  const Aliases = threadNames(handle, wanted.threadNetwork?.name);
  return { NetworkingConfig: { EndpointsConfig: { [place.name]: { Aliases } } } };
}

function networkHostConfig(facts: ContainerFacts): Dockerode.HostConfig {
  const { place, gateway } = facts;
  const binds = [`${facts.runDir}:/run/deco:rw`];
  if (place.kind === "pause") return { Binds: binds, NetworkMode: joining(place.id) };
  if (place.kind === "host") return { Binds: binds, NetworkMode: "host" };
  if (place.kind === "none") {
    return { Binds: [...binds, `${facts.hostsFile}:/etc/hosts:ro`], NetworkMode: "none" };
  }
  // The engine asks the host's name servers for a name that it does not know: nobody answers here.
  if (place.kind === "thread") return { Binds: binds, NetworkMode: place.name, Dns: ["127.0.0.1"] };
  // A published port costs about 100 ms; the engine picks it (LESSONS 31).
  const loopback = [{ HostIp: "127.0.0.1", HostPort: "" }];
  const ports = publishedPorts(facts).map((port) => [`${port}/tcp`, loopback] as const);
  return {
    Binds: binds,
    NetworkMode: place.name,
    ...(ports.length === 0 ? {} : { PortBindings: Object.fromEntries(ports) }),
    ...(gateway ? { ExtraHosts: ["host.docker.internal:host-gateway"] } : {}),
  };
}

function hostConfig(facts: ContainerFacts): Dockerode.HostConfig {
  const { wanted } = facts;
  const tier = tierHostConfig(facts.tier);
  const memory = memoryMibOf(wanted, facts.harness) * 1024 * 1024;
  return {
    ...tier,
    Mounts: [...(tier.Mounts ?? []), workspaceMount(facts)],
    Init: true,
    Memory: memory,
    MemorySwap: memory,
    NanoCpus: Math.round(wanted.cpus * 1e9),
    PidsLimit: wanted.pids,
    // No limit of files: one above the engine's own keeps runc from starting anything.
    Ulimits: [{ Name: "core", Soft: 0, Hard: 0 }],
    // What we supervise has no other supervisor (LESSONS 26).
    RestartPolicy: { Name: "no" },
    LogConfig: { Type: "json-file", Config: { "max-size": "5m", "max-file": "2" } },
  };
}
