import { DecoError } from "../../../src/protocol/errors.ts";
import type {
  HarnessEndpoint,
  SandboxInfo,
  SandboxProvider,
} from "../../../src/sandbox/provider.ts";
import type { Program, World } from "../core/world.ts";
import { Harnessd, type HarnessdKind } from "./harnessd.ts";
import type { Server } from "./net.ts";

interface Sandbox {
  readonly info: SandboxInfo;
  readonly harnessd: Harnessd;
  readonly endpoint: HarnessEndpoint;
}

/** A laptop's container engine: its sandboxes outlive the daemon. */
export class Engine {
  readonly program: Program;
  readonly provider: SandboxProvider;
  readonly sandboxes = new Map<string, Sandbox>();
  readonly kind: HarnessdKind;
  readonly #world: World;
  readonly #name: string;
  #made = 0;

  constructor(world: World, name: string) {
    this.#world = world;
    this.kind = world.random.hit(0.3) ? "go" : "ours";
    this.#name = name;
    this.program = world.program(`${name} engine`);
    this.provider = this.#provider();
  }

  /** The harnessd that listens at a loopback address. */
  serverAt(origin: string): Server | undefined {
    for (const { endpoint, harnessd } of this.sandboxes.values()) {
      if (endpoint.url !== origin) continue;
      const handler = (request: Request) => harnessd.handle(request);
      return { kind: "harness", program: this.program, handler };
    }
    return undefined;
  }

  /** The container dies with everything in it. */
  lose(handle: string): void {
    this.sandboxes.get(handle)?.harnessd.kill();
    this.sandboxes.delete(handle);
  }

  #provider(): SandboxProvider {
    const call = <T>(answer: () => T): Promise<T> => this.#soon(answer);
    return {
      name: "process",
      probe: () => call(() => ({ available: true, confined: true })),
      list: () => call(() => [...this.sandboxes.values()].map(({ info }) => info)),
      inspect: (handle) => call(() => this.sandboxes.get(handle)?.info),
      remove: (handle) => call(() => this.lose(handle)),
      processesLeft: (handle) => call(() => this.sandboxes.get(handle)?.harnessd.processes ?? 0),
      killProcesses: (handle) =>
        call(() => {
          this.sandboxes.get(handle)?.harnessd.kill();
          return 0;
        }),
      endpoint: (handle) => call(() => this.#known(handle).endpoint),
      ensure: async (handle, _spec, context, signal) => {
        const known = this.sandboxes.get(handle);
        if (known !== undefined) return known.info;
        context.onStage("create");
        await context.beforeStart?.(`/run/${handle}`, 1000);
        await this.#soon(() => signal.throwIfAborted());
        context.onStage("start");
        return this.#make(handle).info;
      },
    };
  }

  #make(handle: string): Sandbox {
    this.#made += 1;
    const at = new Date(this.#world.now).toISOString();
    const endpoint = { url: `http://127.0.0.1:${7000 + this.#made}`, token: `t${this.#made}` };
    const info: SandboxInfo = {
      handle,
      provider: "process",
      status: "running",
      id: `${this.#name}.${this.#made}`,
      startedAt: at,
      createdAt: at,
      harnesses: ["shell"],
      readyMs: 1,
      confined: true,
      runDir: `/run/${handle}`,
    };
    const harnessd = new Harnessd(this.#world, this.program, this.kind);
    const sandbox = { info, endpoint, harnessd };
    this.sandboxes.set(handle, sandbox);
    return sandbox;
  }

  #known(handle: string): Sandbox {
    const sandbox = this.sandboxes.get(handle);
    if (sandbox === undefined) throw new DecoError("sandbox_not_found", `no ${handle}`);
    return sandbox;
  }

  /** The engine answers a moment later, if the asker still lives. */
  #soon<T>(answer: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const look = () => {
        try {
          resolve(answer());
        } catch (error) {
          reject(error);
        }
      };
      this.#world.timer(look, this.#world.random.real(1, 40));
    });
  }
}
