import type { ProviderName } from "../protocol/messages.ts";
import type { DockerProviderOptions } from "./drivers/docker/docker-options.ts";
import { dockerProvider } from "./drivers/docker/docker-provider.ts";
import { processProvider } from "./drivers/process/process-provider.ts";
import type { SandboxProvider } from "./provider.ts";

export interface ProviderOptions extends DockerProviderOptions {
  /** The owner's word that a plain process will do where nothing can confine one. */
  readonly allowUnconfined?: boolean;
}

/** The providers of this build, best isolation first; which of them work, their probes tell. */
export function createProviders(
  options: ProviderOptions,
): ReadonlyMap<ProviderName, SandboxProvider> {
  const { allowUnconfined, ...docker } = options;
  const { instanceId, runRoot, cacheDir, log } = options;
  const process = { instanceId, runRoot, cacheDir, log };
  return new Map<ProviderName, SandboxProvider>([
    ["docker", dockerProvider(docker)],
    [
      "process",
      processProvider({
        ...process,
        ...(allowUnconfined === undefined ? {} : { allowUnconfined }),
      }),
    ],
  ]);
}
