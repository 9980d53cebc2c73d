import { readdirSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { ProviderProbe, SandboxInfo, SandboxProvider } from "../../src/sandbox/provider.ts";
import { startHarnessd, type TestHarnessd, TOKEN } from "../harnessd/harnessd-process.ts";

/** The real harnessd as a child process, without a sandbox around it: for tests alone. */
export class ChildProvider implements SandboxProvider, AsyncDisposable {
  readonly name = "process";
  readonly #sandboxes = new Map<string, { harnessd: TestHarnessd; info: SandboxInfo }>();

  readonly #env: Record<string, string>;

  /** @param env more settings of harnessd */
  constructor(env: Record<string, string> = {}) {
    this.#env = env;
  }

  probe(): Promise<ProviderProbe> {
    return Promise.resolve({ available: true, confined: false });
  }

  async ensure(handle: string): Promise<SandboxInfo> {
    const existing = this.#sandboxes.get(handle);
    if (existing) return existing.info;
    const harnessd = await startHarnessd({ env: this.#env });
    const at = new Date().toISOString();
    const info: SandboxInfo = {
      handle,
      provider: this.name,
      status: "running",
      id: String(harnessd.child.pid),
      startedAt: at,
      createdAt: at,
      harnesses: ["shell"],
      confined: false,
      runDir: harnessd.folder,
    };
    this.#sandboxes.set(handle, { harnessd, info });
    return info;
  }

  list(): Promise<SandboxInfo[]> {
    return Promise.resolve([...this.#sandboxes.values()].map(({ info }) => info));
  }

  inspect(handle: string): Promise<SandboxInfo | undefined> {
    const sandbox = this.#sandboxes.get(handle);
    if (!sandbox) return Promise.resolve(undefined);
    const { exitCode, signalCode } = sandbox.harnessd.child;
    const gone = exitCode !== null || signalCode !== null;
    return Promise.resolve({ ...sandbox.info, status: gone ? "stopped" : "running" });
  }

  async remove(handle: string): Promise<void> {
    const sandbox = this.#sandboxes.get(handle);
    this.#sandboxes.delete(handle);
    await sandbox?.harnessd[Symbol.asyncDispose]();
  }

  processesLeft(handle: string): Promise<number> {
    return Promise.resolve(this.pids(handle).length);
  }

  /** As real providers: what was killed is gone, or had a second to go. */
  async killProcesses(handle: string): Promise<number> {
    const until = performance.now() + 1000;
    for (;;) {
      const left = this.pids(handle);
      if (left.length === 0 || performance.now() > until) return left.length;
      for (const pid of left) signalTo(pid);
      await sleep(5);
    }
  }

  endpoint(handle: string) {
    const { harnessd } = this.get(handle);
    return Promise.resolve({ url: harnessd.url, token: TOKEN });
  }

  get(handle = [...this.#sandboxes.keys()][0] ?? "") {
    const sandbox = this.#sandboxes.get(handle);
    if (!sandbox) throw new Error(`no sandbox ${handle}`);
    return sandbox;
  }

  /** What works in the sandbox's workspace, whoever its parent is by now. */
  pids(handle?: string): number[] {
    const { workspace } = this.get(handle).harnessd;
    return readdirSync("/proc")
      .map(Number)
      .filter((pid) => pid > 0 && cwdOf(pid) === workspace);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const handle of this.#sandboxes.keys()) {
      await this.killProcesses(handle);
      await this.remove(handle);
    }
  }
}

function cwdOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

/** It may have gone since the look. */
function signalTo(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone.
  }
}
