import type { ProcessScope } from "../processes.ts";
import type { HarnessName, RunRequest } from "../requests.ts";

/** Whether this image can run a harness. */
export interface HarnessAvailability {
  readonly name: HarnessName;
  readonly available: boolean;
  readonly version?: string;
  /** Why not. */
  readonly reason?: string;
}

/** What an adapter gets to work with for one run. */
export interface AdapterContext {
  readonly runId: string;
  readonly request: RunRequest;
  readonly workspace: string;
  /** A folder of this run's own, outside the workspace, closed to other users. */
  readonly scratch: string;
  /** The environment of the run's programs: clean base, the run's own, its mark. */
  readonly env: Readonly<Record<string, string>>;
  /** Aborted by a cancel or the run's time limit; the run's processes are ended then. */
  readonly signal: AbortSignal;
  emit(type: string, payload: Readonly<Record<string, unknown>>): void;
  /** Resolves when the log may take more. @throws storage_failed */
  room(): Promise<void>;
  /** Says which process leads the run, so that a cancel reaches it. */
  started(leader: ProcessScope["leader"]): void;
  /** Base URL on loopback that leads to the model proxy. */
  modelBaseUrl(): Promise<string>;
}

/** Payload of the run's `run.completed`. */
export type Completed = Readonly<Record<string, unknown>>;

/** Runs one kind of program and tells its happenings as run events. */
export interface Adapter {
  readonly name: HarnessName;
  availability(): Promise<HarnessAvailability>;
  /**
   * Resolves when the program ended well; else throws a `DecoError` whose `extensions` go into the
   * payload of `run.failed`. Emits no terminal event.
   */
  run(context: AdapterContext): Promise<Completed>;
}
