import type { ProviderName } from "../protocol/messages.ts";
import { type DockerProviderOptions, dockerProvider } from "./drivers/docker/docker-provider.ts";
import type { SandboxProvider } from "./provider.ts";

export type ProviderOptions = DockerProviderOptions;

/** The providers of this build, best isolation first. A daemon without an engine still has both. */
export function createProviders(
  options: ProviderOptions,
): ReadonlyMap<ProviderName, SandboxProvider> {
  return new Map<ProviderName, SandboxProvider>([["docker", dockerProvider(options)]]);
}
