import type { SandboxLog } from "../../sandbox-log.ts";
import type { EngineMemory } from "./engine/engine-mark.ts";
import type { EngineWhere } from "./engine/find-engine.ts";
import type { ModelTransport } from "./engine/probe.ts";

export interface DockerProviderOptions extends EngineWhere {
  readonly instanceId: string;
  /** Directory of the sandboxes' run directories; short, and mountable into the engine. */
  readonly runRoot: string;
  /** Directory of built binaries and fetched programs. */
  readonly cacheDir: string;
  readonly log: SandboxLog;
  /** Which engines this home has used; none is known when absent. */
  readonly engines?: EngineMemory;
  /** How the model proxy is reached; found out by the probe when absent. */
  readonly modelTransport?: ModelTransport;
  /** Pause containers that are kept ready for the next sandboxes; 0. The owner must then close it. */
  readonly pausePool?: number;
  /** Sandboxes that are kept ready for specs in use; 0. The owner must then close it. */
  readonly warmSandboxes?: number;
  /** MiB that all of them together may use; 128. */
  readonly warmMemoryMib?: number;
  /** Where this machine's processes are seen; /proc. */
  readonly procRoot?: string;
  /** MiB that must be free on the engine's disk; 100. */
  readonly engineDiskMib?: number;
  /** Until a started container must answer; 30,000. */
  readonly readyTimeoutMs?: number;
  /** Until the engine must answer a short question; 20,000. */
  readonly callTimeoutMs?: number;
}
