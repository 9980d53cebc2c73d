import type { ProviderName } from "../protocol/messages.ts";
import type { ResolvedSpec } from "./sandbox-spec.ts";
import type { SandboxFiles } from "./workspace/sandbox-files.ts";

/**
 * One way of running sandboxes on this laptop.
 *
 * A provider keeps no truth of its own: what exists is what the engine (or the run directory) says,
 * so that a restarted daemon sees the same sandboxes. Every call takes a signal. Calls other than
 * {@link SandboxProvider.probe} reject with a `DecoError`.
 */
export interface SandboxProvider {
  readonly name: ProviderName;
  /** Finds out by doing whether this provider works here, now. Never throws. */
  probe(signal: AbortSignal): Promise<ProviderProbe>;
  /**
   * Makes the sandbox, or finds it. Idempotent; concurrent calls share one work, which is aborted
   * only when the last of its callers has gone. Whatever fails half-way is rolled back.
   *
   * @throws isolation_unavailable, image_missing, sandbox_failed, docker_unavailable,
   * unconfined_refused, run_conflict (the sandbox exists with another spec, or is the laptop's owner's)
   */
  ensure(
    handle: string,
    spec: ResolvedSpec,
    context: EnsureContext,
    signal: AbortSignal,
  ): Promise<SandboxInfo>;
  /**
   * The sandboxes of this daemon's instance, running or not. Those of an engine that does not answer,
   * or not within `deadlineMs`, are `unknown` where they are known, else it throws.
   */
  list(signal: AbortSignal, o?: { deadlineMs?: number }): Promise<SandboxInfo[]>;
  /** Undefined only when it surely does not exist; "don't know" is status `unknown`. */
  inspect(handle: string, signal: AbortSignal): Promise<SandboxInfo | undefined>;
  /** Removes the sandbox with its disks and its run directory. Already gone is success. */
  remove(handle: string, signal: AbortSignal): Promise<void>;
  /**
   * Ends all that runs inside, harnessd included; its files stay, and the next ensure starts it again.
   * For sandboxes without a run. One that does not run is success.
   */
  stop?(handle: string, signal: AbortSignal): Promise<void>;
  /** The daemon's own look at the engine: processes inside besides init and harnessd. */
  processesLeft(handle: string, signal: AbortSignal): Promise<number>;
  /** Ends everything inside but init and harnessd; returns what is left after that. */
  killProcesses(handle: string, signal: AbortSignal): Promise<number>;
  /** Where, and with which token, harnessd of this sandbox is reached. */
  endpoint(handle: string, signal: AbortSignal): Promise<HarnessEndpoint>;
  /**
   * Ends what daemons that died left of what they made ahead, and begins to make it for the next
   * sandboxes if `ahead`. At the daemon's start and every minute. Throws the signal's reason alone.
   */
  prepare?(o: { ahead: boolean }, signal: AbortSignal): Promise<void>;
  /**
   * For the daemon's end: removes what is of no sandbox's use (what was made ahead, the instance's
   * network when nothing is in it). No other call follows.
   */
  close?(signal: AbortSignal): Promise<void>;
  /** Sandboxes that are ready for runs to come; they are in no list. */
  madeAhead?(): MadeAhead;
  /** Files in and out of the workspace. */
  readonly files?: SandboxFiles;
  /**
   * What daemons of this instance left behind of sandboxes that are not there any more. Nothing that
   * may be on its way to one.
   *
   * @throws docker_unavailable: then nothing is known, and nothing may be removed
   */
  orphans?(signal: AbortSignal): Promise<Orphan[]>;
  /** Removes one, unless its sandbox is being made now. Gone already is success. */
  removeOrphan?(orphan: Orphan, signal: AbortSignal): Promise<void>;
  /**
   * Runs a program inside as the sandbox's own user, in /workspace. Ends with its exit code. A reader
   * who leaves ends the program.
   *
   * @throws sandbox_not_found, sandbox_lost (it does not run), sandbox_failed
   */
  exec?(handle: string, command: readonly string[], signal: AbortSignal): AsyncIterable<ExecChunk>;
  /** The last lines that init and harnessd wrote. */
  logs?(handle: string, lines: number, signal: AbortSignal): Promise<string>;
}

/** Sandboxes made ahead. */
export interface MadeAhead {
  readonly ready: number;
  /** What they use together, as it was measured last. */
  readonly memoryMib: number;
  /** Runs that got one since the daemon started. */
  readonly leased: number;
  /** When the next one is tried, after failures (RFC 3339). */
  readonly retryAt?: string;
  /** Why the last one failed, or why there are none on this engine. */
  readonly reason?: string;
}

export interface ProviderProbe {
  readonly available: boolean;
  readonly version?: string;
  readonly arch?: string;
  /** Why it is absent, or why it is less than it could be. */
  readonly reason?: string;
  /** What the laptop's owner can do about it. */
  readonly fix?: string;
  /** Whether what runs inside is confined (PROTOCOL.md, "Confined"). */
  readonly confined: boolean;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** `progress` is a share, 0 to 1; with `ms` the stage is over. */
export type StageProgress =
  | { readonly stage: string; readonly progress: number }
  | { readonly stage: string; readonly ms: number };

export interface EnsureContext {
  /** Of the daemon's home: labels carry it, so that a neighbour's sandboxes are never touched. */
  readonly instanceId: string;
  readonly thread?: string;
  /** For whom: a user as the hub names it, else one of `OWNERS`. Who makes it stays its owner. */
  readonly owner?: string;
  /** Harness that the first run wants; chooses the default image. */
  readonly harness?: string;
  /**
   * Called by every ensure after the run directory exists and before anything inside starts, and for
   * a sandbox that was found running, too: must be idempotent. Makes the model proxy's socket.
   * `modelPort`: where engines in a VM, which sockets don't reach, find it on this machine.
   */
  readonly beforeStart?: (runDir: string, uid: number) => Promise<{ modelPort?: number } | void>;
  /** Whether a run other than the caller's works in it: then a silent harnessd is left alone. */
  readonly inUse?: () => boolean;
  /**
   * Called when a stage begins: image (in it pull or build, where one is needed), create, boot, ready;
   * lease instead of these, for one that was made ahead; restart, when harnessd was broken.
   */
  onStage(stage: string): void;
  /** Called when a stage that takes long has come so far, and when one ended well. */
  readonly onProgress?: (told: StageProgress) => void;
}

/** A thing of a sandbox that is not there any more. */
export interface Orphan {
  readonly kind: "volume" | "network" | "run directory";
  /** As the engine or the run root calls it. */
  readonly name: string;
  /** The sandbox that it was of. */
  readonly handle?: string;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly reason: string;
}

/** What a program inside writes; its exit code comes last. */
export type ExecChunk =
  | { readonly stream: "stdout" | "stderr"; readonly content: string }
  | { readonly exitCode: number };

export interface SandboxInfo {
  readonly handle: string;
  readonly provider: ProviderName;
  readonly status: "running" | "stopped" | "unknown";
  /** Address of harnessd, where it has one on loopback. */
  readonly url?: string;
  readonly image?: string;
  readonly imageId?: string;
  /** Of one that is stopped. */
  readonly exitCode?: number;
  /** There when the kernel ended something inside for lack of memory since `startedAt`; 0: no limit. */
  readonly outOfMemory?: { readonly limitMib: number };
  /** `sha256:…` of its manifest where it came from a registry, else its id. */
  readonly imageDigest?: string;
  /** Container id, or `<pid>.<start time>` of the confined process. */
  readonly id: string;
  /** RFC 3339. */
  readonly startedAt: string;
  /** RFC 3339. */
  readonly createdAt: string;
  /** Names of the adapters that this sandbox's harnessd says it can run. */
  readonly harnesses: readonly string[];
  /** Milliseconds from the call to ready; only from the call that made it. */
  readonly readyMs?: number;
  /** Milliseconds per stage; only from the call that made it. */
  readonly stages?: Readonly<Record<string, number>>;
  readonly confined: boolean;
  /** As {@link EnsureContext.owner}; absent for those that were made before there were owners. */
  readonly owner?: string;
  /** Ports inside that were asked for, each with its port on 127.0.0.1. */
  readonly ports?: Readonly<Record<string, number>>;
  /** The host directory that is /run/deco inside. */
  readonly runDir: string;
}

/** Exactly one of url and socketPath is used; the socket wins. */
export interface HarnessEndpoint {
  readonly url?: string;
  readonly socketPath?: string;
  /** Owner that the socket must have; anyone but this uid could only be an impostor. */
  readonly socketUid?: number;
  readonly token: string;
}
