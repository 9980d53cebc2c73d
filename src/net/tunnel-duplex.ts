import { Duplex } from "node:stream";
import type { MuxStream, StreamFailure } from "../protocol/mux-stream.ts";
import { streamError } from "./tunnel-body.ts";

/** A stream after 101 as raw bytes both ways; WebSockets pass through without being understood. */
export interface RawStream {
  readonly duplex: Duplex;
  push(bytes: Uint8Array): void;
  end(): void;
  fail(failure: StreamFailure): void;
  drain(): void;
  /** Our end went out. */
  endSent(): void;
}

export function rawStream(stream: MuxStream): RawStream {
  let written: (() => void) | undefined;
  let finished: (() => void) | undefined;
  const held: Uint8Array[] = [];
  let ended = false;
  const duplex = new Duplex({
    allowHalfOpen: true,
    read() {
      give();
    },
    write(chunk: Uint8Array, _encoding, done) {
      if (stream.write(chunk)) done();
      else written = done;
    },
    final(done) {
      // Not sooner: a duplex that finished is destroyed, and that resets what is not sent.
      finished = done;
      stream.end();
    },
    destroy(error, done) {
      stream.reset();
      done(error);
    },
  });
  // A broken peer is seen as a close; whoever wants the reason listens for "error" himself.
  duplex.on("error", () => undefined);
  const give = () => {
    for (let bytes = held.shift(); bytes; bytes = held.shift()) {
      stream.consumed(bytes.byteLength);
      if (!duplex.push(bytes)) return;
    }
    if (ended) duplex.push(null);
  };
  return {
    duplex,
    push(bytes) {
      held.push(bytes);
      if (duplex.readableLength < duplex.readableHighWaterMark) give();
    },
    end() {
      ended = true;
      if (held.length === 0) duplex.push(null);
    },
    fail: (failure) => duplex.destroy(streamError(failure)),
    drain() {
      const done = written;
      written = undefined;
      done?.();
    },
    endSent: () => finished?.(),
  };
}
