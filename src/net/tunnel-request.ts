import type { Duplex } from "node:stream";
import { deferred } from "../protocol/deferred.ts";
import { DecoError } from "../protocol/errors.ts";
import type { RequestHead, ResponseHead } from "../protocol/frames.ts";
import type { Mux } from "../protocol/mux.ts";
import type { MuxStream, StreamEvents, StreamFailure } from "../protocol/mux-stream.ts";
import { inboundBody, Outbound, streamError } from "./tunnel-body.ts";
import { type RawStream, rawStream } from "./tunnel-duplex.ts";
import { headersFrom, passingHeaders } from "./tunnel-headers.ts";

export interface TunnelRequest {
  readonly method: string;
  /** Path with query. */
  readonly path: string;
  readonly headers: Headers | Readonly<Record<string, string>>;
  readonly body?: Uint8Array | ReadableStream<Uint8Array> | undefined;
  /** Resets the stream at once, before and after the head. */
  readonly signal: AbortSignal;
}

export interface TunnelAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** Read or cancel it. Errors with `tunnel_lost` when the tunnel breaks. */
  readonly body: ReadableStream<Uint8Array>;
}

export interface TunnelUpgrade extends TunnelAnswer {
  /** Raw bytes both ways, when the status is 101. */
  readonly socket?: Duplex;
}

/**
 * One request through the mux; resolves with the answer's head.
 *
 * @throws {@link DecoError} `tunnel_lost` or `tunnel_refused`, with `mayHaveExecuted` in its
 *   extensions; the signal's reason after an abort.
 */
export function tunnelRequest(
  mux: Mux,
  request: TunnelRequest,
  upgrade: boolean,
): Promise<TunnelUpgrade> {
  request.signal.throwIfAborted();
  const exchange = new Exchange(mux, request, upgrade);
  return exchange.head.promise;
}

class Exchange implements StreamEvents {
  readonly head = deferred<TunnelUpgrade>();
  readonly #stream: MuxStream;
  readonly #signal: AbortSignal;
  readonly #upgrade: boolean;
  readonly #outbound = new Outbound();
  readonly #inbound = inboundBody(
    () => this.#stream,
    () => this.#giveUp(),
  );
  #raw: RawStream | undefined;

  constructor(mux: Mux, request: TunnelRequest, upgrade: boolean) {
    const { signal, body } = request;
    this.#signal = signal;
    this.#upgrade = upgrade;
    this.#stream = mux.open(headOf(request, upgrade), !upgrade && !body, this);
    signal.addEventListener("abort", this.#onAbort, { once: true });
    if (body && !upgrade) this.#send(body).catch((error: unknown) => this.#fail(error));
  }

  onHead({ status, headers: list }: ResponseHead): void {
    if (this.#upgrade && status === 101) {
      this.#raw = rawStream(this.#stream);
      this.#raw.duplex.once("close", () => this.#over());
    } else if (status < 200) {
      this.#fail(new DecoError("tunnel_refused", `an answer with ${status}`));
      return;
    } else if (this.#upgrade) this.#stream.end();
    const socket = this.#raw?.duplex;
    const answer = { status, headers: headersFrom(list), body: this.#inbound.body };
    this.head.resolve(socket ? { ...answer, socket } : answer);
  }

  onData(bytes: Uint8Array): void {
    (this.#raw ?? this.#inbound).push(bytes);
  }

  onEnd(): void {
    (this.#raw ?? this.#inbound).end();
    if (!this.#raw) this.#over();
  }

  /** After the answer's end this only says that the rest of the upload is not wanted. */
  onReset(failure: StreamFailure): void {
    this.#over();
    this.#outbound.stop();
    this.#raw?.fail(failure);
    this.#reject(streamError(failure));
  }

  onDrain(): void {
    if (this.#raw) this.#raw.drain();
    else this.#outbound.onDrain();
  }

  onEndSent(): void {
    this.#raw?.endSent();
  }

  async #send(body: Uint8Array | ReadableStream<Uint8Array>): Promise<void> {
    if (body instanceof ReadableStream) {
      await this.#outbound.send(this.#stream, body);
      return;
    }
    this.#stream.write(body);
    this.#stream.end();
  }

  readonly #onAbort = () => this.#fail(this.#signal.reason);

  #fail(thrown: unknown): void {
    this.#giveUp();
    this.#raw?.duplex.destroy();
    this.#reject(thrown);
  }

  #giveUp(): void {
    this.#over();
    this.#outbound.stop();
    this.#stream.reset();
  }

  #reject(thrown: unknown): void {
    this.head.reject(thrown);
    this.#inbound.fail(thrown);
  }

  #over(): void {
    this.#signal.removeEventListener("abort", this.#onAbort);
  }
}

function headOf({ method, path, headers }: TunnelRequest, upgrade: boolean): RequestHead {
  const list = passingHeaders(headers, upgrade);
  return { method, path, headers: list, ...(upgrade ? { upgrade } : {}) };
}
