import type { Socket } from "node:net";
import { WebSocket } from "ws";

/** The connection under a mux: ordered messages, a queue whose length shows, an end. */
export interface MuxSocket {
  send(message: Uint8Array): void;
  /** Bytes handed over that the system has not taken yet. */
  buffered(): number;
  /** Grows with every byte that arrives; at least with every message. */
  received(): number;
  listen(events: MuxSocketEvents): void;
  /** Says goodbye; the peer hears code and reason. */
  close(code: number, reason: string): void;
  /** Drops the connection without a word. */
  terminate(): void;
}

export interface MuxSocketEvents {
  readonly onMessage: (message: Uint8Array) => void;
  /** The queue got shorter. */
  readonly onDrain: () => void;
  /** Once, whatever ended it. */
  readonly onClose: (code: number, reason: string) => void;
}

/** What a `ws` socket is made with at both ends. */
export const WS_OPTIONS = { perMessageDeflate: false, maxPayload: 256 * 1024 } as const;

/** A peer that does not answer a close is dropped after so long. */
const CLOSE_TIMEOUT_MS = 2000;

/** The socket of the `ws` package; on Bun that is Bun's own implementation of it. */
export function wsSocket(ws: WebSocket, tcp?: Socket): MuxSocket {
  let messages = 0;
  let closed = false;
  let drained: (() => void) | undefined;
  tcp?.setNoDelay(true);
  return {
    buffered: () => ws.bufferedAmount,
    // Bun does not count bytes (bytesRead stays 0): there every message counts.
    received: () => (tcp?.bytesRead ?? 0) + messages,
    listen({ onMessage, onDrain, onClose }) {
      drained = onDrain;
      ws.on("message", (data) => {
        messages++;
        onMessage(bytesOf(data));
      });
      ws.on("error", () => ws.terminate());
      ws.on("close", (code, reason) => {
        if (closed) return;
        closed = true;
        onClose(code, reason.toString());
      });
    },
    send(message) {
      if (ws.readyState !== WebSocket.OPEN) return;
      // The callback comes when the system took the bytes; Bun's sockets here have no "drain".
      ws.send(message, { binary: true, compress: false }, () => drained?.());
    },
    close(code, reason) {
      ws.close(code, reason.slice(0, 100));
      const timer = setTimeout(() => ws.terminate(), CLOSE_TIMEOUT_MS);
      ws.once("close", () => clearTimeout(timer));
    },
    terminate: () => ws.terminate(),
  };
}

function bytesOf(data: Buffer | ArrayBuffer | Buffer[]): Uint8Array {
  if (Array.isArray(data)) return Buffer.concat(data);
  return data instanceof ArrayBuffer ? new Uint8Array(data) : data;
}
