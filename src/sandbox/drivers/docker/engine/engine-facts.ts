import { z } from "zod";

/** What of an engine's own words counts here. */
export interface EngineFacts {
  readonly kind: "docker" | "podman";
  readonly version: string;
  /** Such as `1.41`; empty when it tells none. */
  readonly api: string;
  readonly arch: string;
  readonly os: string;
  readonly osType: string;
  /** Its containers are in another user namespace than this machine's users. */
  readonly rootless: boolean;
  readonly rootDir: string;
  /** The release of its kernel, which is this machine's own unless it is in a VM. */
  readonly kernel: string;
  /** As it names itself; empty when it does not. */
  readonly id: string;
  /** What filters the system calls of a container that names no profile of its own. */
  readonly seccomp: "profile" | "unconfined" | "none";
  /** Of the machine that its containers run on; 0 when it does not tell. */
  readonly memoryMib: number;
  /** Limits of a container that it says it can't set; PROTOCOL.md names all three. */
  readonly missingLimits: readonly ("memory" | "CPU" | "processes")[];
}

const Version = z.object({
  Version: z.string().default(""),
  ApiVersion: z.string().default(""),
  Arch: z.string().default(""),
  // Podman and nothing else has a component of this name.
  Components: z.array(z.object({ Name: z.string() })).nullish(),
});

const Info = z.object({
  KernelVersion: z.string().default(""),
  ID: z.string().default(""),
  OperatingSystem: z.string().default(""),
  OSType: z.string().default(""),
  DockerRootDir: z.string().default(""),
  SecurityOptions: z.array(z.string()).nullish(),
  CgroupVersion: z.string().default(""),
  Rootless: z.boolean().optional(),
  MemTotal: z.number().default(0),
  MemoryLimit: z.boolean().optional(),
  CpuCfsQuota: z.boolean().optional(),
  PidsLimit: z.boolean().optional(),
});

/** Out of the answers to GET /version and GET /info. @throws ZodError: no engine says such things */
export function engineFacts(versionAnswer: unknown, infoAnswer: unknown): EngineFacts {
  const version = Version.parse(versionAnswer);
  const info = Info.parse(infoAnswer);
  const isPodman = version.Components?.some(({ Name }) => Name === "Podman Engine") ?? false;
  const options = info.SecurityOptions ?? [];
  const rootless = info.Rootless === true || options.some((o) => /name=(rootless|userns)/.test(o));
  return {
    kind: isPodman ? "podman" : "docker",
    version: version.Version,
    api: version.ApiVersion,
    arch: version.Arch,
    os: info.OperatingSystem,
    osType: info.OSType,
    rootDir: info.DockerRootDir,
    kernel: info.KernelVersion,
    id: info.ID,
    rootless,
    seccomp: seccompOf(info.SecurityOptions),
    memoryMib: Math.floor(info.MemTotal / 1024 / 1024),
    missingLimits: missingLimits(info, isPodman && rootless),
  };
}

/** An engine that says nothing at all of its security is taken at its default. */
function seccompOf(options: readonly string[] | null | undefined): EngineFacts["seccomp"] {
  if (options === undefined) return "profile";
  const named = options?.find((option) => /^name=seccomp(,|$)/.test(option));
  if (named === undefined) return "none";
  return /,profile=unconfined(,|$)/.test(named) ? "unconfined" : "profile";
}

/** Podman tells what the kernel can; without root and cgroup v2 it sets none of it. */
function missingLimits(info: z.infer<typeof Info>, rootlessPodman: boolean) {
  const none = rootlessPodman && info.CgroupVersion === "1";
  const said = { memory: info.MemoryLimit, CPU: info.CpuCfsQuota, processes: info.PidsLimit };
  return (["memory", "CPU", "processes"] as const).filter((name) => none || said[name] === false);
}
