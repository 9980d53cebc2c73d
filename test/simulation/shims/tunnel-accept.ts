// Stands for src/net/tunnel-accept.ts: the "socket" is the simulated tunnel itself.
import type { DecoError } from "../../../src/protocol/errors.ts";
import type { Tunnel } from "../nodes/tunnel.ts";

interface TunnelSocket {
  readonly tunnel: Tunnel;
}

export function upgradeToTunnel(
  _request: unknown,
  socket: TunnelSocket,
): ReturnType<Tunnel["accept"]> {
  return socket.tunnel.accept();
}

export function refuseUpgrade(socket: TunnelSocket, error: DecoError): void {
  socket.tunnel.refuse(error.toProblem());
}
