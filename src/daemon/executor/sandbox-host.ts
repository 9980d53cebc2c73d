import { sameOwner } from "../../sandbox/owner.ts";
import type {
  EnsureContext,
  SandboxInfo,
  SandboxProvider,
  StageProgress,
} from "../../sandbox/provider.ts";
import type { ResolvedSpec } from "../../sandbox/sandbox-spec.ts";
import type { Log } from "../log.ts";
import { createModelSockets } from "./model-sockets.ts";
import type { RunModelAccess } from "./parts.ts";

interface EnsureSandbox {
  readonly provider: SandboxProvider;
  readonly handle: string;
  readonly spec: ResolvedSpec;
  readonly thread?: string;
  /** As in {@link EnsureContext}. */
  readonly owner: string;
  readonly harness?: string;
  readonly onStage?: (stage: string) => void;
  readonly onProgress?: (told: StageProgress) => void;
  /** Whether a run other than the caller's works in it. */
  readonly inUse?: () => boolean;
  readonly signal: AbortSignal;
}

/** Sandboxes together with the model's socket that each one sees. */
export interface SandboxHost extends AsyncDisposable {
  /** As the provider's ensure; the model answers in the sandbox before anything inside starts. */
  ensure(options: EnsureSandbox): Promise<SandboxInfo>;
  /** Serves the model again in a sandbox that outlived a daemon. */
  reopen(provider: SandboxProvider, info: SandboxInfo, signal: AbortSignal): Promise<void>;
  remove(provider: SandboxProvider, handle: string, signal: AbortSignal): Promise<void>;
}

interface HostOptions {
  readonly instanceId: string;
  readonly modelProxy: Pick<RunModelAccess, "openSandbox">;
  readonly log: Log;
}

export function createSandboxHost(options: HostOptions): SandboxHost {
  const { instanceId, modelProxy, log } = options;
  const sockets = createModelSockets(modelProxy, log);
  const directories = new Map<string, string>();
  const removals = new Map<string, Promise<void>>();

  const reopen: SandboxHost["reopen"] = async (provider, info, signal) => {
    directories.set(nameOf(provider, info.handle), info.runDir);
    if (await sockets.isOpen(info.runDir)) return;
    const { socketUid } = await provider.endpoint(info.handle, signal);
    await sockets.open(info.runDir, socketUid ?? process.getuid?.() ?? 0);
  };
  return {
    reopen,
    ensure: async (o) => {
      const { provider, handle, spec, thread, owner, harness, signal } = o;
      const { onStage, onProgress, inUse } = o;
      const opened: string[] = [];
      const context: EnsureContext = {
        instanceId,
        owner,
        ...(thread === undefined ? {} : { thread }),
        ...(harness === undefined ? {} : { harness }),
        ...(inUse === undefined ? {} : { inUse }),
        beforeStart: async (runDir, uid) => {
          const result = await sockets.open(runDir, uid);
          if (result.opened) opened.push(runDir);
          const { modelPort } = result.socket;
          return modelPort === undefined ? {} : { modelPort };
        },
        onStage: (stage) => onStage?.(stage),
        ...(onProgress === undefined ? {} : { onProgress }),
      };
      try {
        const info = await provider.ensure(handle, spec, context, signal);
        // Who came while it was made shared that work.
        sameOwner(handle, info.owner, owner);
        await reopen(provider, info, signal);
        return info;
      } catch (error) {
        for (const runDir of opened) await sockets.shut(runDir);
        throw error;
      }
    },
    remove: async (provider, handle, signal) => {
      const name = nameOf(provider, handle);
      // Engines refuse a removal while another one of the same is under way.
      await removals.get(name)?.catch(() => undefined);
      const removal = provider.remove(handle, signal);
      removals.set(name, removal);
      try {
        await removal;
      } finally {
        if (removals.get(name) === removal) removals.delete(name);
      }
      const runDir = directories.get(name);
      directories.delete(name);
      if (runDir !== undefined) await sockets.shut(runDir);
    },
    [Symbol.asyncDispose]: () => sockets[Symbol.asyncDispose](),
  };
}

function nameOf(provider: SandboxProvider, handle: string): string {
  return `${provider.name}/${handle}`;
}
