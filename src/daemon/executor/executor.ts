import type { DecoError } from "../../protocol/errors.ts";
import type { DispatchRun, HarnessName, ProviderName, RunState } from "../../protocol/messages.ts";
import type { SandboxProvider } from "../../sandbox/provider.ts";
import type { Journal } from "../journal.ts";
import type { Log } from "../log.ts";
import type { SandboxRules } from "../sandbox-rules.ts";
import type { ActiveRun } from "./live-run.ts";
import type { RunModelAccess } from "./parts.ts";
import type { SandboxHost } from "./sandbox-host.ts";

export interface ExecutorOptions {
  readonly journal: Journal;
  readonly providers: ReadonlyMap<ProviderName, SandboxProvider>;
  /** The provider for runs that name none, or why there is none. */
  readonly defaultProvider: () => ProviderName | DecoError;
  /** Why a provider can't be used now, by the newest probe. Absent: every one can. */
  readonly checkProvider?: (name: ProviderName) => DecoError | undefined;
  /** What sandbox objects mean here. Absent: as without any file of the owner. */
  readonly rules?: SandboxRules;
  readonly modelProxy: RunModelAccess;
  readonly limits: { readonly maxRuns: number };
  /** Harnesses that may be dispatched; shell and claude-code when absent. */
  readonly harnesses?: readonly HarnessName[];
  readonly instanceId: string;
  /** Told when a run has left its sandbox; the signal aborts when the daemon leaves. */
  readonly onLeft?: (handle: string, signal: AbortSignal) => void;
  readonly log: Log;
  readonly now?: () => number;
}

/** Runs what is dispatched, each step journaled; the hub and the tunnel need not be there. */
export interface Executor {
  /** Sandboxes with their model socket, for routes that make and remove them as well. */
  readonly sandboxes: SandboxHost;
  /**
   * Enters a run into the ledger and starts it; the same dispatch again attaches.
   *
   * @param o.local whether it came over the laptop's own socket; policy grants by it
   * @throws unknown_harness, harness_missing, capability_missing, invalid_request,
   * isolation_unavailable, policy_denied, run_conflict, attempt_stale, draining, and why no provider
   * can be used
   */
  dispatch(body: DispatchRun, o?: { local: boolean }): RunState;
  /** Durable when it returns, also for a run that was not dispatched yet. @throws attempt_stale */
  cancel(runId: string, attempt?: number): void;
  /** @throws run_not_found, attempt_stale, run_not_waiting, harness_unreachable */
  input(runId: string, attempt: number, text: string, signal: AbortSignal): Promise<void>;
  approve(
    runId: string,
    attempt: number,
    decision: { callId?: string },
    signal: AbortSignal,
  ): Promise<void>;
  deny(
    runId: string,
    attempt: number,
    decision: { callId?: string; reason?: string },
    signal: AbortSignal,
  ): Promise<void>;
  /** After a start: goes on with, ends or fails what was left unfinished. The first call counts. */
  resumeAll(): void;
  /** The laptop slept until now: told in each run that worked, and not counted in its time. */
  slept(sleptMs: number): void;
  /** Runs that this process works on, waiting ones included. */
  active(): ActiveRun[];
  /** Whether a run (of this owner, where one is named) works, or waits to work, in this sandbox. */
  isBusy(handle: string, owner?: string): boolean;
  /**
   * Takes no new runs and begins none that wait; resolves when those that work have ended, or the
   * grace is over, with the number of runs left, waiting ones included.
   */
  drain(graceMs: number): Promise<number>;
  /** Cancels what works or waits in this sandbox, durably, and resolves when it has ended. */
  endRunsIn(handle: string, signal: AbortSignal): Promise<void>;
  /**
   * Looks at the sandboxes of the runs that work. One that is surely gone fails its run with
   * sandbox_lost; resolves with the number of those.
   */
  failLost(signal: AbortSignal): Promise<number>;
  /** Cancels every run, durably, and resolves when each has its terminal event. */
  cancelAll(): Promise<void>;
  /** Puts every run down as it is, to be adopted by the next daemon. */
  close(): Promise<void>;
}
