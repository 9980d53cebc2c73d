import type { ProviderName } from "../../protocol/messages.ts";
import type { SandboxProvider } from "../../sandbox/provider.ts";
import type { Journal } from "../journal.ts";
import type { Log } from "../log.ts";
import type { RunSlots } from "./run-slots.ts";
import type { SandboxHost } from "./sandbox-host.ts";

/** Where one sandbox reaches the model; `modelPort` for engines that no socket reaches into. */
export interface ModelSocket extends AsyncDisposable {
  readonly modelPort?: number;
}

/** What the executor needs of the model proxy. */
export interface RunModelAccess {
  /** Serves the model on `runDir/model.sock` for the sandbox that sees this directory. */
  openSandbox(runDir: string, uid: number): Promise<ModelSocket>;
  /** A token that is good until `revoke`; granting again gives the same one. */
  grant(runId: string): { readonly token: string };
  revoke(runId: string): void;
  /** What the run used, counted outside of the sandbox. */
  usage(runId: string): Readonly<{ inputTokens: number; outputTokens: number; requests: number }>;
}

/** What every step of a run works with. */
export interface ExecutorParts {
  readonly journal: Journal;
  readonly providers: ReadonlyMap<ProviderName, SandboxProvider>;
  readonly sandboxes: SandboxHost;
  readonly modelProxy: RunModelAccess;
  readonly slots: RunSlots;
  readonly log: Log;
  readonly now: () => number;
  /** Aborted when the daemon leaves: runs are put down as they are, to be adopted later. */
  readonly leaving: AbortSignal;
}
