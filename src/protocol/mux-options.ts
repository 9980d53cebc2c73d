import type { RequestHead } from "./frames.ts";
import type { MuxStream } from "./mux-stream.ts";

/** What one end of a tunnel's connection is made of. */
export interface MuxOptions {
  /** The hub opens odd streams, the daemon even ones. */
  readonly role: "hub" | "daemon";
  /** Puts one message into the socket's queue. */
  readonly send: (message: Uint8Array) => void;
  /** Bytes in the socket's queue. The owner calls `Mux.pump` whenever it got shorter. */
  readonly buffered: () => number;
  /** Runs the flush at the end of the tick. */
  readonly schedule?: ((flush: () => void) => void) | undefined;
  /** A stream that the peer opened; `ended` = it has no body. The callee calls `stream.listen`. */
  readonly onRequest?: (stream: MuxStream, head: RequestHead, ended: boolean) => void;
  readonly onPong?: (payload: Uint8Array) => void;
  /** The peer broke the protocol: close the connection with this code. */
  readonly onFault: (code: number, reason: string) => void;
  /** The last open stream is gone. */
  readonly onIdle?: () => void;
  /** Streams that the peer may have open; 1024. */
  readonly maxStreams?: number;
}
