import { z } from "zod";
import { PROVIDERS, type ProviderName } from "../protocol/messages.ts";
import type { ProviderProbe } from "../sandbox/provider.ts";
import { readPrivateJson, writePrivateJson } from "./private-file.ts";

/** Which provider makes the sandboxes that name none, and why. */
export interface ProviderChoice {
  readonly provider?: ProviderName;
  readonly reason: string;
  readonly fix?: string;
}

export interface ChooseProviderOptions {
  readonly probes: ReadonlyMap<ProviderName, ProviderProbe>;
  /** What the laptop's owner named. */
  readonly preference?: ProviderName | undefined;
  /** What this home has used before. */
  readonly remembered?: ProviderName | undefined;
  readonly allowUnconfined: boolean;
}

/**
 * Docker if it really works, then `process` if it confines. A home that has used Docker stays with
 * it: an engine that is down never makes the weaker one the default.
 */
export function chooseProvider(options: ChooseProviderOptions): ProviderChoice {
  const { probes, preference, remembered } = options;
  const docker = probes.get("docker");
  if (preference !== undefined) {
    return { provider: preference, reason: `${preference}: named by the laptop's owner` };
  }
  if (docker?.available) {
    const version = docker.version ? ` ${docker.version}` : "";
    return { provider: "docker", reason: `docker: the engine${version} answers` };
  }
  const why = docker?.reason ?? "it was not found";
  if (remembered === "docker") {
    return {
      provider: "docker",
      reason: `docker: this home uses it, but ${why}; never weaker by itself`,
      fix: `${docker?.fix ?? "Start Docker."} Or name another with --local-sandbox-provider process.`,
    };
  }
  return withoutDocker(options, why);
}

function withoutDocker(options: ChooseProviderOptions, why: string): ProviderChoice {
  const found = options.probes.get("process");
  if (found?.available && found.confined) {
    return { provider: "process", reason: `process: it confines here; no docker (${why})` };
  }
  if (found?.available && options.allowUnconfined) {
    const reason = `process: UNCONFINED, as --allow-unconfined allows; no docker (${why})`;
    return { provider: "process", reason };
  }
  return {
    reason: `no docker (${why}); process can't confine here (${found?.reason ?? "not available"})`,
    fix: fixes(options.probes.get("docker")?.fix, found?.fix),
  };
}

/** Either of the two is enough; Docker first, as an engine that is there is the shorter way. */
function fixes(docker: string | undefined, process: string | undefined): string {
  const known = [docker && `For docker: ${docker}`, process && `For process: ${process}`];
  const own = known.filter((fix) => fix !== undefined && fix !== "").join(" ");
  return `${own || "Install Docker or bubblewrap."} Or allow it with --allow-unconfined.`;
}

const ProviderFile = z.looseObject({
  default: z.enum(PROVIDERS).optional(),
  /** Providers that have worked here: they may hold sandboxes of ours. */
  seen: z.array(z.enum(PROVIDERS)),
});
export type ProviderMemory = z.infer<typeof ProviderFile>;

export async function readProviderMemory(path: string): Promise<ProviderMemory> {
  const parsed = ProviderFile.safeParse(await readPrivateJson(path));
  return parsed.success ? parsed.data : { seen: [] };
}

export async function writeProviderMemory(path: string, memory: ProviderMemory): Promise<void> {
  await writePrivateJson(path, memory);
}
