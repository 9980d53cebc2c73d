// Stands for src/net/tunnel-dial.ts: the tunnel is one of the simulated network.
import type { DialOptions } from "../../../src/net/tunnel-dial.ts";
import { theWorld } from "../core/current.ts";
import { machineOf } from "../nodes/machine.ts";
import type { SimTunnelEnd } from "../nodes/tunnel.ts";

export function dialTunnel(options: DialOptions): Promise<SimTunnelEnd> {
  options.signal.throwIfAborted();
  return machineOf(theWorld().current).net.dial(options);
}
