import type Dockerode from "dockerode";
import { memoryMibOf, type WantedSandbox } from "../../sandbox-spec.ts";
import { LABELS, type Names } from "./names.ts";

export interface ContainerFacts {
  readonly names: Names;
  readonly handle: string;
  readonly instanceId: string;
  readonly wanted: WantedSandbox;
  readonly imageTag: string;
  readonly runDir: string;
  readonly uid: number;
  readonly createdAt: string;
  readonly thread?: string | undefined;
  readonly harness?: string | undefined;
  /** Engines in a VM: host port of the model proxy. */
  readonly modelPort?: number | undefined;
  readonly gateway: boolean;
  /** Of this instance; unused without egress. */
  readonly network: string;
}

/** Everything that the engine is told about a sandbox (PROTOCOL.md, "Sandboxes"). */
export function containerOptions(facts: ContainerFacts): Dockerode.ContainerCreateOptions {
  const open = facts.wanted.egress === "open";
  return {
    name: facts.names.container,
    Image: facts.imageTag,
    User: `${facts.uid}:${facts.uid}`,
    WorkingDir: "/workspace",
    Env: environment(facts),
    Labels: labels(facts),
    // harnessd needs up to 12 s to end its runs.
    StopTimeout: 15,
    ...(open ? { ExposedPorts: { "8080/tcp": {} } } : {}),
    HostConfig: hostConfig(facts, open),
  };
}

/** What harnessd is told. The run's own environment comes with the run. */
function environment(facts: ContainerFacts): string[] {
  const { wanted, modelPort, gateway } = facts;
  return [
    `HARNESS_ADDR=${wanted.egress === "open" ? "0.0.0.0:8080" : "off"}`,
    "HARNESS_SWEEP=1",
    "HARNESS_LOG_MIB=128",
    ...(gateway && modelPort !== undefined
      ? [`HARNESS_MODEL_URL=http://host.docker.internal:${modelPort}`]
      : []),
  ];
}

function labels(facts: ContainerFacts): Record<string, string> {
  return {
    [LABELS.instance]: facts.instanceId,
    [LABELS.handle]: facts.handle,
    [LABELS.spec]: facts.wanted.hash,
    [LABELS.created]: facts.createdAt,
    [LABELS.rundir]: facts.runDir,
    [LABELS.image]: facts.imageTag,
    ...(facts.thread === undefined ? {} : { [LABELS.thread]: facts.thread }),
  };
}

function hostConfig(facts: ContainerFacts, open: boolean): Dockerode.HostConfig {
  const { wanted, uid } = facts;
  const memory = memoryMibOf(wanted, facts.harness) * 1024 * 1024;
  const own = `rw,nosuid,nodev,exec,uid=${uid},gid=${uid},mode=0700`;
  return {
    Binds: [`${facts.runDir}:/run/deco:rw`],
    Mounts: [
      {
        Type: "volume",
        Source: facts.names.volume,
        Target: "/workspace",
        ReadOnly: false,
        VolumeOptions: {
          NoCopy: false,
          Labels: { [LABELS.instance]: facts.instanceId, [LABELS.handle]: facts.handle },
          DriverConfig: { Name: "local", Options: {} },
        },
      },
    ],
    Tmpfs: {
      "/tmp": "rw,nosuid,nodev,exec,mode=1777,size=256m",
      "/run/harnessd": `${own},size=192m`,
      "/home/agent": `${own},size=256m`,
    },
    ReadonlyRootfs: true,
    Init: true,
    CapDrop: ["ALL"],
    SecurityOpt: ["no-new-privileges"],
    Memory: memory,
    MemorySwap: memory,
    NanoCpus: Math.round(wanted.cpus * 1e9),
    PidsLimit: wanted.pids,
    // No limit of files: one above the engine's own keeps runc from starting anything.
    Ulimits: [{ Name: "core", Soft: 0, Hard: 0 }],
    // What we supervise has no other supervisor (LESSONS 26).
    RestartPolicy: { Name: "no" },
    LogConfig: { Type: "json-file", Config: { "max-size": "5m", "max-file": "2" } },
    NetworkMode: open ? facts.network : "none",
    ...(open ? { PortBindings: { "8080/tcp": [{ HostIp: "127.0.0.1", HostPort: "" }] } } : {}),
    ...(facts.gateway && open ? { ExtraHosts: ["host.docker.internal:host-gateway"] } : {}),
  };
}
