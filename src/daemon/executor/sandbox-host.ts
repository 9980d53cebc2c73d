import type { SandboxSpec } from "../../protocol/messages.ts";
import type { EnsureContext, SandboxInfo, SandboxProvider } from "../../sandbox/provider.ts";
import type { Log } from "../log.ts";
import type { RunModelAccess } from "./parts.ts";

export interface EnsureSandbox {
  readonly provider: SandboxProvider;
  readonly handle: string;
  readonly spec: SandboxSpec;
  readonly thread?: string;
  readonly harness?: string;
  readonly onStage?: (stage: string) => void;
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
  /** By the run directory, which is one sandbox's own. */
  const sockets = new Map<string, AsyncDisposable>();
  const directories = new Map<string, string>();

  const shut = async (runDir: string | undefined) => {
    const socket = runDir === undefined ? undefined : sockets.get(runDir);
    if (runDir === undefined || socket === undefined) return;
    sockets.delete(runDir);
    await socket[Symbol.asyncDispose]();
  };
  const open = async (runDir: string, uid: number) => {
    await shut(runDir);
    sockets.set(runDir, await modelProxy.openSandbox(runDir, uid));
  };
  const reopen: SandboxHost["reopen"] = async (provider, info, signal) => {
    directories.set(nameOf(provider, info.handle), info.runDir);
    if (sockets.has(info.runDir)) return;
    const { socketUid } = await provider.endpoint(info.handle, signal);
    await open(info.runDir, socketUid ?? process.getuid?.() ?? 0);
  };
  return {
    reopen,
    ensure: async ({ provider, handle, spec, thread, harness, onStage, signal }) => {
      const opened: string[] = [];
      const context: EnsureContext = {
        instanceId,
        ...(thread === undefined ? {} : { thread }),
        ...(harness === undefined ? {} : { harness }),
        beforeStart: async (runDir, uid) => {
          opened.push(runDir);
          await open(runDir, uid);
        },
        onStage: (stage) => onStage?.(stage),
      };
      try {
        const info = await provider.ensure(handle, spec, context, signal);
        await reopen(provider, info, signal);
        return info;
      } catch (error) {
        for (const runDir of opened) await shut(runDir);
        throw error;
      }
    },
    remove: async (provider, handle, signal) => {
      await provider.remove(handle, signal);
      const name = nameOf(provider, handle);
      await shut(directories.get(name));
      directories.delete(name);
    },
    [Symbol.asyncDispose]: async () => {
      for (const runDir of sockets.keys()) {
        await shut(runDir).catch((error: unknown) => {
          log.warn({ err: error, runDir }, "a model socket did not close");
        });
      }
    },
  };
}

function nameOf(provider: SandboxProvider, handle: string): string {
  return `${provider.name}/${handle}`;
}
