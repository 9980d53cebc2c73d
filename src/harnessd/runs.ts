import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import type { Adapter } from "./adapters/adapter.ts";
import { EventLog } from "./event-log.ts";
import { HARNESSES, type HarnessName, type RunRequest } from "./requests.ts";
import { type ActiveRun, failedPayload, startRun } from "./run.ts";
import { applyEvent, newRunState, type RunState } from "./run-state.ts";

/** What is kept of a run's request; never its environment or model token. */
const RunRecord = z.object({
  id: z.string(),
  prompt: z.string(),
  harness: z.enum(HARNESSES),
  model: z.string().optional(),
  /** The caller's own name of the run. */
  clientRunId: z.string().optional(),
  /** RFC 3339, UTC. */
  createdAt: z.string(),
});
type RunRecord = Readonly<z.infer<typeof RunRecord>>;

/** A run, going on or ended. */
export interface Run {
  readonly record: RunRecord;
  readonly state: RunState;
  readonly log: EventLog;
  /** Absent when it ended, or was ended by a restart of harnessd. */
  active?: ActiveRun;
}

export interface RunsOptions {
  readonly dataDir: string;
  readonly workspace: string;
  readonly baseEnv: Readonly<Record<string, string>>;
  readonly adapters: ReadonlyMap<HarnessName, Adapter>;
  readonly maxLogBytes: number;
  readonly sweep: boolean;
  modelBaseUrl(): Promise<string>;
  readonly now?: () => Date;
}

/** Ended runs beyond this number are forgotten, oldest first. */
const MAX_ENDED_RUNS = 200;

/** The runs of this sandbox, on disk under one folder each. */
export class Runs implements AsyncDisposable {
  readonly #options: RunsOptions;
  readonly #now: () => Date;
  readonly #runs = new Map<string, Run>();
  /** Runs that are being made, by the caller's name of them. */
  readonly #starting = new Map<string, Promise<Run>>();

  private constructor(options: RunsOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
  }

  /** Reads what an earlier harnessd left; its unended runs end here with `harness_restarted`. */
  static async open(options: RunsOptions): Promise<Runs> {
    const runs = new Runs(options);
    await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
    const found: RunRecord[] = [];
    for (const id of await readdir(options.dataDir)) {
      const text = await readFile(join(options.dataDir, id, "run.json"), "utf8").catch(() => "");
      const record = parseRecord(text);
      if (record?.id === id) found.push(record);
    }
    found.sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1));
    for (const record of found) await runs.#reopen(record);
    return runs;
  }

  get(id: string): Run | undefined {
    return this.#runs.get(id);
  }

  /** Oldest first. */
  list(): Run[] {
    return [...this.#runs.values()];
  }

  /** The run that its caller calls so. */
  findByClientId(clientRunId: string): Run | undefined {
    return this.list().find(({ record }) => record.clientRunId === clientRunId);
  }

  /**
   * Starts a run; with the `client_run_id` of one that is known, gives that one.
   *
   * @throws storage_failed, run_conflict (the known one was another)
   */
  async create(request: RunRequest): Promise<Run> {
    const { client_run_id: clientRunId } = request;
    if (clientRunId === undefined) return await this.#create(request);
    const known = this.#starting.get(clientRunId) ?? this.findByClientId(clientRunId);
    if (known) return sameRun(await known, request);
    const starting = this.#create(request);
    this.#starting.set(clientRunId, starting);
    return await starting.finally(() => this.#starting.delete(clientRunId));
  }

  async #create(request: RunRequest): Promise<Run> {
    const { harness, model, prompt, client_run_id: clientRunId } = request;
    const adapter = this.#options.adapters.get(harness);
    if (!adapter) throw new DecoError("unknown_harness", `no adapter for ${harness}`);
    while (this.#isCrowded() && (await this.#forgetOldest()));
    const id = `run_${randomUUID()}`;
    const createdAt = this.#now().toISOString();
    const record: RunRecord = {
      id,
      prompt,
      harness,
      createdAt,
      ...(model ? { model } : {}),
      ...(clientRunId === undefined ? {} : { clientRunId }),
    };
    const run = await this.#store(record).catch((error: unknown) => {
      throw DecoError.from(error, "storage_failed");
    });
    this.#runs.set(id, run);
    run.active = this.#start(run, request, adapter);
    void run.active.ended.then(() => delete run.active);
    return run;
  }

  /** Cancels all runs and waits for their terminal events. */
  async cancelAll(): Promise<void> {
    const active = this.#active();
    for (const run of active) run.cancel();
    await Promise.all(active.map((run) => run.ended));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cancelAll();
    for (const run of this.#runs.values()) await run.log[Symbol.asyncDispose]();
  }

  #start({ record, log }: Run, request: RunRequest, adapter: Adapter): ActiveRun {
    const { workspace, baseEnv, dataDir } = this.#options;
    return startRun({
      runId: record.id,
      request,
      adapter,
      log,
      workspace,
      folder: join(dataDir, record.id),
      baseEnv,
      modelBaseUrl: () => this.#options.modelBaseUrl(),
      ownsSandbox: () => this.#options.sweep && this.#active().length <= 1,
    });
  }

  #active(): ActiveRun[] {
    return this.list().flatMap((run) => run.active ?? []);
  }

  async #store(record: RunRecord): Promise<Run> {
    const folder = join(this.#options.dataDir, record.id);
    await mkdir(folder, { mode: 0o700 });
    await writeFile(join(folder, "run.json"), JSON.stringify(record), { mode: 0o600, flush: true });
    return await this.#openLog(record);
  }

  async #openLog(record: RunRecord): Promise<Run> {
    const state = newRunState(record.createdAt);
    const log = await EventLog.open({
      folder: join(this.#options.dataDir, record.id),
      runId: record.id,
      maxBytes: this.#options.maxLogBytes,
      now: this.#now,
      makeRoom: () => this.#forgetOldest(record.id),
      onEvent: (event) => applyEvent(state, event),
    });
    return { record, state, log };
  }

  async #reopen(record: RunRecord): Promise<void> {
    const run = await this.#openLog(record);
    this.#runs.set(record.id, run);
    if (run.log.ended) return;
    const failure = new DecoError("harness_restarted", "harnessd was restarted during the run");
    await run.log.end("run.failed", failedPayload(failure));
  }

  /** Logs of ended runs may take as much disk as one run may. */
  #isCrowded(): boolean {
    const ended = this.list().filter((run) => run.active === undefined);
    const bytes = ended.reduce((sum, run) => sum + run.log.size, 0);
    return ended.length > MAX_ENDED_RUNS || bytes > this.#options.maxLogBytes;
  }

  /** Drops the oldest ended run but `except`; false when there is none. */
  async #forgetOldest(except?: string): Promise<boolean> {
    const run = this.list().find((one) => one.active === undefined && one.record.id !== except);
    if (!run) return false;
    this.#runs.delete(run.record.id);
    await run.log[Symbol.asyncDispose]();
    await rm(join(this.#options.dataDir, run.record.id), { recursive: true, force: true });
    return true;
  }
}

function sameRun(run: Run, { prompt, harness, client_run_id: name }: RunRequest): Run {
  if (run.record.prompt === prompt && run.record.harness === harness) return run;
  throw new DecoError("run_conflict", `${name} is another run`);
}

function parseRecord(text: string): RunRecord | undefined {
  try {
    return RunRecord.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
