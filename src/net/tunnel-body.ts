import { DecoError, ERRORS, type ErrorCode } from "../protocol/errors.ts";
import type { MuxStream, StreamFailure } from "../protocol/mux-stream.ts";

/** The receiving side of a stream: fed by its events, read as a web stream. */
export interface Inbound {
  readonly body: ReadableStream<Uint8Array>;
  push(bytes: Uint8Array): void;
  end(): void;
  fail(error: unknown): void;
}

/**
 * A body that gives its credit back only when its reader took the bytes, so a reader that stops
 * holds 256 KiB here and its sender there.
 */
export function inboundBody(stream: () => MuxStream, onCancel: () => void): Inbound {
  const queue: Uint8Array[] = [];
  let ended = false;
  let failure: { readonly error: unknown } | undefined;
  let wake: (() => void) | undefined;
  const notify = () => {
    wake?.();
    wake = undefined;
  };
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (queue.length === 0 && !ended && !failure)
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        const bytes = queue.shift();
        if (bytes) {
          stream().consumed(bytes.byteLength);
          controller.enqueue(bytes);
        } else if (failure) controller.error(failure.error);
        else controller.close();
      },
      cancel() {
        queue.length = 0;
        ended = true;
        notify();
        onCancel();
      },
    },
    { highWaterMark: 0 },
  );
  return {
    body,
    push(bytes) {
      if (ended) return;
      queue.push(bytes);
      notify();
    },
    end() {
      ended = true;
      notify();
    },
    fail(error) {
      if (ended) return;
      failure ??= { error };
      notify();
    },
  };
}

/** The sending side's waits: resolved by the stream's `onDrain`, or when it is over. */
export class Outbound {
  #wake: (() => void) | undefined;
  #cancel: (() => void) | undefined;
  #stopped = false;

  /** Sends a whole body under credit, then the end. Throws what the source throws. */
  async send(stream: MuxStream, source: ReadableStream<Uint8Array>): Promise<void> {
    const reader = source.getReader();
    this.#cancel = () => {
      reader.cancel(new Error("the tunnel's stream is over")).catch(() => undefined);
    };
    if (this.#stopped) this.stop();
    for (;;) {
      const { done, value } = await reader.read();
      if (this.#stopped || stream.closed) return;
      if (done) break;
      if (!stream.write(value)) await this.drained();
    }
    stream.end();
  }

  drained(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#stopped) resolve();
      else this.#wake = resolve;
    });
  }

  /** There is room again. */
  onDrain(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** The stream is over: nobody takes the rest. */
  stop(): void {
    this.#stopped = true;
    this.onDrain();
    this.#cancel?.();
  }
}

/** The error that a stream's early end stands for. */
export function streamError({ code, lost, mayHaveExecuted }: StreamFailure): DecoError {
  const extensions = { mayHaveExecuted };
  if (lost) return new DecoError("tunnel_lost", "the tunnel broke", { extensions });
  const known = isErrorCode(code) ? code : "tunnel_refused";
  const detail = `the peer gave the stream up${code === "" ? "" : `: ${code}`}`;
  return new DecoError(known, detail, { extensions });
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}
