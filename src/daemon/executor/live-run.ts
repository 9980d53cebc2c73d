import type { DispatchRun, ProviderName } from "../../protocol/messages.ts";
import type { HarnessClient } from "../../sandbox/harness-client.ts";
import type { SandboxInfo, SandboxProvider } from "../../sandbox/provider.ts";
import type { ResolvedSpec } from "../../sandbox/sandbox-spec.ts";
import { RunStopped, type StopReason } from "./run-stop.ts";

/** One attempt that this process works on. */
export interface LiveRun {
  readonly dispatch: DispatchRun;
  readonly provider: SandboxProvider;
  readonly handle: string;
  /** What the dispatch's sandbox object means on this laptop. */
  readonly spec: ResolvedSpec;
  /** Aborted with a {@link RunStopped}; the first reason stays. */
  readonly signal: AbortSignal;
  readonly stop: (reason: StopReason) => void;
  /** Resolves when the loop has ended, with or without a terminal event. Never rejects. */
  done: Promise<void>;
  /** Whether its turn came: it works, and its time runs. */
  begun: boolean;
  /** Whether the sandbox may exist: from then on an end is proven by a look at it. */
  touched: boolean;
  /** Whether harnessd may have been told to start: from then on processes may be left. */
  told: boolean;
  sandbox?: SandboxInfo;
  /** Whether the last look found its sandbox gone; the second one in a row ends the run. */
  missed?: boolean;
  harness?: { readonly client: HarnessClient; readonly runId: string };
}

export function newLiveRun(
  dispatch: DispatchRun,
  provider: SandboxProvider,
  { handle, spec }: { handle: string; spec: ResolvedSpec },
): LiveRun {
  const controller = new AbortController();
  return {
    dispatch,
    provider,
    handle,
    spec,
    signal: controller.signal,
    stop: (reason) => controller.abort(new RunStopped(reason)),
    done: Promise.resolve(),
    begun: false,
    touched: false,
    told: false,
  };
}

/** How `active()` shows it. */
export interface ActiveRun {
  readonly runId: string;
  readonly attempt: number;
  readonly handle: string;
  readonly provider: ProviderName;
  /** False while it waits for its turn. */
  readonly begun: boolean;
}
