import type { IncomingMessage } from "node:http";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { DecoError } from "../protocol/errors.ts";
import { answerProblem } from "./raw-problem.ts";
import { createPeer, type PeerOptions, type TunnelPeer } from "./tunnel-peer.ts";
import { WS_OPTIONS, wsSocket } from "./tunnel-socket.ts";

export type AcceptOptions = Pick<PeerOptions, "handler" | "heartbeatMs" | "maxStreams">;

/** The hub's end of a tunnel on a WebSocket that is open (made with {@link WS_OPTIONS}). */
export function acceptTunnel(
  ws: WebSocket,
  options: AcceptOptions & { readonly tcp?: Socket | undefined } = {},
): TunnelPeer {
  return createPeer({ ...options, role: "hub", socket: wsSocket(ws, options.tcp) });
}

const server = new WebSocketServer({ noServer: true, ...WS_OPTIONS });

/**
 * Completes the upgrade of a request that was let in, and runs the hub's end on it.
 *
 * @throws {@link DecoError} `invalid_request` when it is no proper WebSocket handshake.
 */
export function upgradeToTunnel(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  options: AcceptOptions = {},
): Promise<TunnelPeer> {
  return new Promise((resolve, reject) => {
    const failed = () => reject(new DecoError("invalid_request", "the upgrade failed"));
    socket.once("close", failed);
    // The dialler may have left while its secret was looked at.
    if (socket.destroyed) failed();
    server.handleUpgrade(request, socket, head, (ws) => {
      const tcp = socket instanceof Socket ? socket : undefined;
      resolve(acceptTunnel(ws, { ...options, tcp }));
    });
  });
}

/** Answers an upgrade with a problem document instead; the dialler throws its code. */
export function refuseUpgrade(socket: Duplex, error: DecoError): void {
  answerProblem(socket, error);
}
