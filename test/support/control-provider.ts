import { DecoError } from "../../src/protocol/errors.ts";
import { sameOwner } from "../../src/sandbox/owner.ts";
import type { HarnessEndpoint, SandboxInfo, SandboxProvider } from "../../src/sandbox/provider.ts";

/** Sandboxes that are entries of a map: the engine as far side, with its faults at hand. */
export interface PlayedProvider extends SandboxProvider {
  readonly boxes: Map<string, SandboxInfo>;
  /** While set, every call but the probe fails with it. */
  down: DecoError | undefined;
  endpointOf: HarnessEndpoint;
  probed: Awaited<ReturnType<SandboxProvider["probe"]>>;
}

export function playedProvider(name: "docker" | "process" = "docker"): PlayedProvider {
  const boxes = new Map<string, SandboxInfo>();
  const up = () => {
    if (provider.down) throw provider.down;
  };
  const provider: PlayedProvider = {
    name,
    boxes,
    down: undefined,
    endpointOf: { url: "http://127.0.0.1:9", token: "t" },
    probed: { available: true, version: "1.2.3", arch: process.arch, confined: true },
    probe: async () => provider.probed,
    async ensure(handle, _spec, context) {
      up();
      const known = boxes.get(handle);
      sameOwner(handle, known?.owner, context.owner);
      if (known) return known;
      context.onStage("create");
      const at = new Date().toISOString();
      const info: SandboxInfo = {
        handle,
        provider: name,
        status: "running",
        url: "http://127.0.0.1:9",
        id: `id-${handle}`,
        startedAt: at,
        createdAt: at,
        harnesses: ["shell"],
        confined: true,
        ...(context.owner === undefined ? {} : { owner: context.owner }),
        runDir: "/nowhere",
      };
      boxes.set(handle, info);
      return info;
    },
    async list() {
      up();
      return [...boxes.values()];
    },
    async inspect(handle) {
      up();
      return boxes.get(handle);
    },
    async remove(handle) {
      up();
      boxes.delete(handle);
    },
    processesLeft: async () => 0,
    killProcesses: async () => 0,
    async endpoint(handle) {
      up();
      if (!boxes.has(handle)) throw new DecoError("sandbox_not_found", handle);
      return provider.endpointOf;
    },
  };
  return provider;
}
