import type { HttpAnswer, HttpRequestOptions } from "../../../src/net/http-request.ts";
import type { DialOptions } from "../../../src/net/tunnel-dial.ts";
import type { Disk } from "../core/disk.ts";
import type { Program } from "../core/world.ts";
import type { SimTunnelEnd } from "./tunnel.ts";

/** What a program finds outside of itself. */
export interface Machine {
  readonly disk: Disk;
  readonly net: {
    http(options: HttpRequestOptions): Promise<HttpAnswer>;
    dial(options: DialOptions): Promise<SimTunnelEnd>;
  };
}

const machines = new WeakMap<Program, Machine>();

export function runOn(machine: Machine, program: Program): void {
  machines.set(program, machine);
}

export function machineOf(program: Program): Machine {
  const machine = machines.get(program);
  if (machine === undefined) throw new Error(`${program.name} runs on no machine`);
  return machine;
}
