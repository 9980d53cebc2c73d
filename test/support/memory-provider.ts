import { setTimeout as sleep } from "node:timers/promises";
import { deferred } from "../../src/protocol/deferred.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import type { ProviderName } from "../../src/protocol/messages.ts";
import type {
  EnsureContext,
  HarnessEndpoint,
  ProviderProbe,
  SandboxInfo,
  SandboxProvider,
} from "../../src/sandbox/provider.ts";
import type { ResolvedSpec } from "../../src/sandbox/sandbox-spec.ts";
import { MemoryHarness } from "./memory-harness.ts";

interface MemorySandbox {
  readonly harness: MemoryHarness;
  info: SandboxInfo;
}

/** A provider whose sandboxes are HTTP servers in this process; its faults are set by the test. */
export class MemoryProvider implements SandboxProvider, AsyncDisposable {
  readonly name: ProviderName;
  readonly sandboxes = new Map<string, MemorySandbox>();
  readonly ensured: { handle: string; spec: ResolvedSpec }[] = [];
  readonly #dead: MemoryHarness[] = [];
  /** Ensure waits here (or for its signal). */
  gate: Promise<void> = Promise.resolve();
  ensureError: DecoError | undefined;
  /** The engine does not answer. */
  engineDown = false;
  harnesses: string[] = [];
  /** Cuts each stream of new sandboxes behind so many events. */
  dropAfter = Number.POSITIVE_INFINITY;
  /** Processes that no kill ends. */
  immortal = 0;

  constructor(name: ProviderName = "process") {
    this.name = name;
  }

  probe(): Promise<ProviderProbe> {
    return Promise.resolve({ available: true, confined: true });
  }

  async ensure(handle: string, spec: ResolvedSpec, context: EnsureContext, signal: AbortSignal) {
    this.ensured.push({ handle, spec });
    const existing = this.sandboxes.get(handle);
    if (existing) return existing.info;
    context.onStage("create");
    await context.beforeStart?.(`/run/${handle}`, 1000);
    await untilAborted(this.gate, signal);
    if (this.ensureError) throw this.ensureError;
    context.onStage("start");
    const harness = await new MemoryHarness().start();
    harness.dropAfter = this.dropAfter;
    const at = new Date().toISOString();
    const info: SandboxInfo = {
      handle,
      provider: this.name,
      status: "running",
      id: `id-${handle}-${harness.token.slice(0, 8)}`,
      image: "memory:1",
      startedAt: at,
      createdAt: at,
      harnesses: this.harnesses,
      readyMs: 3,
      stages: { create: 1, start: 2 },
      confined: true,
      runDir: `/run/${handle}`,
    };
    this.sandboxes.set(handle, { harness, info });
    return info;
  }

  list(): Promise<SandboxInfo[]> {
    return Promise.resolve([...this.sandboxes.values()].map(({ info }) => info));
  }

  inspect(handle: string): Promise<SandboxInfo | undefined> {
    const info = this.sandboxes.get(handle)?.info;
    // As the docker driver says it: an engine that does not answer knows neither id nor start.
    const unknown = { status: "unknown", id: "", startedAt: "1970-01-01T00:00:00.000Z" } as const;
    return Promise.resolve(info && this.engineDown ? { ...info, ...unknown } : info);
  }

  async remove(handle: string): Promise<void> {
    this.#answering();
    const sandbox = this.sandboxes.get(handle);
    this.sandboxes.delete(handle);
    if (sandbox) this.#dead.push(sandbox.harness);
    await sandbox?.harness[Symbol.asyncDispose]();
  }

  async processesLeft(handle: string): Promise<number> {
    this.#answering();
    await sleep(1);
    return (this.sandboxes.get(handle)?.harness.processes ?? 0) + this.immortal;
  }

  async killProcesses(handle: string): Promise<number> {
    this.#answering();
    this.sandboxes.get(handle)?.harness.kill();
    return await this.processesLeft(handle);
  }

  endpoint(handle: string): Promise<HarnessEndpoint> {
    this.#answering();
    const harness = this.sandboxes.get(handle)?.harness;
    if (!harness) throw new DecoError("sandbox_not_found", `no ${handle}`);
    return Promise.resolve({ url: harness.url, token: harness.token });
  }

  /** The harness of the only, or the named, sandbox. */
  harness(handle = [...this.sandboxes.keys()][0] ?? ""): MemoryHarness {
    const harness = this.sandboxes.get(handle)?.harness;
    if (!harness) throw new Error(`no sandbox ${handle}`);
    return harness;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.engineDown = false;
    for (const handle of this.sandboxes.keys()) await this.remove(handle);
  }

  #answering(): void {
    if (this.engineDown) throw new DecoError("docker_unavailable", "the engine does not answer");
  }
}

async function untilAborted(gate: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const aborted = deferred<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([gate, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
