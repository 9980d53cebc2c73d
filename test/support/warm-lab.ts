import { expect } from "bun:test";
import { readdir } from "node:fs/promises";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import type { ResolvedSpec } from "../../src/sandbox/sandbox-spec.ts";
import { runInside } from "../suites/sandbox-provider-suite.ts";
import { dockerLab, until } from "./docker-lab.ts";

const ready = (provider: SandboxProvider, count = 1) =>
  until(async () => provider.madeAhead?.().ready === count);

/** A lab of Docker providers that make sandboxes ahead. */
export async function warmLab(name: string, signal: AbortSignal) {
  const lab = await dockerLab(name);
  const { docker, instanceId, runRoot, context, make, objects } = lab;
  const prefix = `deco-${instanceId.slice(0, 12)}`;
  return {
    ...lab,
    prefix,
    ready,
    /** Containers that are nobody's yet. */
    spares: async () => {
      const labels = [`dev.deco-link.instance=${instanceId}`, "dev.deco-link.role=warm"];
      const all = await docker.listContainers({ all: true, filters: { label: labels } });
      return all.filter(({ Names }) => Names[0]?.startsWith(`/${prefix}-w-`));
    },
    inside: async (provider: SandboxProvider, handle: string, command: string) =>
      (await runInside(provider, handle, command, signal)).output,
    stagesOf: async (provider: SandboxProvider, handle: string, spec: ResolvedSpec = {}) =>
      Object.keys((await provider.ensure(handle, spec, context, signal)).stages ?? {}),
    /** A provider with one spare of this spec. */
    warmed: async (spec: ResolvedSpec = {}, more = {}) => {
      const provider = make({ warmSandboxes: 1, ...more });
      await provider.ensure("first", spec, context, signal);
      await provider.remove("first", signal);
      await ready(provider);
      return provider;
    },
    nothingLeft: async (provider: SandboxProvider) => {
      await provider.close?.(signal);
      expect(Object.values(await objects()).flat()).toEqual([]);
      expect(await readdir(runRoot)).toEqual([]);
    },
  };
}
