import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createExecutor,
  type Executor,
  type ExecutorOptions,
} from "../../src/daemon/executor/run-executor.ts";
import { type Journal, openJournal } from "../../src/daemon/journal.ts";
import { silentLog } from "../../src/daemon/log.ts";
import type { DispatchRun } from "../../src/protocol/messages.ts";
import { RunEvent, terminalStatus } from "../../src/protocol/run-events.ts";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import type { MemoryProvider } from "../support/memory-provider.ts";

/** The model proxy's side of a run, noted down. */
class ModelNotes {
  readonly granted = new Set<string>();
  readonly sockets: string[] = [];
  requests = 0;

  openSandbox(runDir: string): Promise<AsyncDisposable> {
    this.sockets.push(runDir);
    return Promise.resolve({
      [Symbol.asyncDispose]: () => {
        this.sockets.splice(this.sockets.indexOf(runDir), 1);
        return Promise.resolve();
      },
    });
  }

  grant(runId: string) {
    this.granted.add(runId);
    return { token: `token-of-${runId}` };
  }

  revoke(runId: string): void {
    this.granted.delete(runId);
  }

  usage() {
    return {
      inputTokens: 10 * this.requests,
      outputTokens: this.requests,
      requests: this.requests,
    };
  }
}

type TestProvider = SandboxProvider & AsyncDisposable;

/** An executor on a journal of its own; `restart` is what a new daemon process would find. */
export class ExecutorHome<P extends TestProvider = MemoryProvider> implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), "deco-exec-"));
  readonly provider: P;
  model = new ModelNotes();
  journal: Journal = openJournal({ path: join(this.dir, "journal.db") });
  executor: Executor;

  constructor(provider: P, options: Partial<ExecutorOptions> = {}) {
    this.provider = provider;
    this.executor = this.#create(options);
  }

  async restart(options: Partial<ExecutorOptions> = {}): Promise<void> {
    await this.executor.close();
    this.journal.close();
    this.model = new ModelNotes();
    this.journal = openJournal({ path: join(this.dir, "journal.db") });
    this.executor = this.#create(options);
    this.executor.resumeAll();
  }

  /** As restart, on a journal that `open` makes of the same file. */
  async reopen(open: (path: string) => Journal): Promise<void> {
    await this.executor.close();
    this.journal.close();
    this.journal = open(join(this.dir, "journal.db"));
    this.executor = this.#create({});
  }

  run(prompt: string, more: Partial<DispatchRun> = {}) {
    const body = { runId: "run-1", attempt: 1, harness: "shell", prompt, ...more };
    return this.executor.dispatch(body);
  }

  events(runId = "run-1", attempt = 1): RunEvent[] {
    return this.journal
      .read(runId, attempt, 0, 100_000)
      .map(({ data }) => RunEvent.parse(JSON.parse(data)));
  }

  /** Waits for the first event of a type; gives all up to now. */
  async until(type: string, runId = "run-1", attempt = 1): Promise<RunEvent[]> {
    const signal = AbortSignal.timeout(10_000);
    for (;;) {
      const events = this.events(runId, attempt);
      if (events.some((event) => event.type === type)) return events;
      if (events.some((event) => terminalStatus(event.type))) {
        throw new Error(`ended without ${type}: ${JSON.stringify(events)}`);
      }
      await this.journal.waitFor(runId, attempt, events.length, signal);
    }
  }

  /** Waits for the terminal event and the run's loop; gives all events. */
  async end(runId = "run-1", attempt = 1): Promise<RunEvent[]> {
    const signal = AbortSignal.timeout(20_000);
    while (!this.journal.record(runId, attempt)?.ended) {
      const { lastSeq = 0 } = this.journal.state(runId, attempt) ?? {};
      await this.journal.waitFor(runId, attempt, lastSeq, signal);
    }
    return this.events(runId, attempt);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.executor.close();
    this.journal.close();
    await this.provider[Symbol.asyncDispose]();
    rmSync(this.dir, { recursive: true, force: true });
  }

  #create(options: Partial<ExecutorOptions>): Executor {
    return createExecutor({
      journal: this.journal,
      providers: new Map([[this.provider.name, this.provider]]),
      defaultProvider: () => this.provider.name,
      modelProxy: this.model,
      limits: { maxRuns: 4 },
      instanceId: "test",
      log: silentLog,
      ...options,
    });
  }
}

export function typesOf(events: readonly RunEvent[]): string[] {
  return events.map((event) => event.type);
}
