import { type Deferred, deferred } from "../../../src/protocol/deferred.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import type { Program, World } from "../core/world.ts";
import { type AnswerStream, answerStream } from "./answer-stream.ts";
import type { Fault, Weather } from "./weather.ts";

export type Side = "client" | "server";
export interface Closed {
  readonly code: number;
  readonly reason: string;
}
export interface WireRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | undefined;
  readonly signal: AbortSignal;
}
export interface WireAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: ReadableStream<Uint8Array>;
}
export type Handler = (request: Request) => Response | Promise<Response>;

const OTHER = { client: "server", server: "client" } as const;

/** What a connection carries: not every trouble befalls every kind. */
export type Kind = "hub" | "tunnel" | "harness";

/** A piece of an answer on its way: what is sent in one moment arrives as one piece. */
interface Piece {
  readonly stream: AnswerStream;
  readonly sentAt: number;
  readonly chunks: Uint8Array[];
}

/**
 * A TCP connection between two programs: in order, each way with its latency, until it is cut; then
 * what is under way is lost and the ends notice some time later, each for itself.
 */
export class Connection {
  readonly world: World;
  readonly weather: Weather;
  readonly programs: Readonly<Record<Side, Program>>;
  readonly #kind: Kind;
  readonly #lostCode: DecoError["code"];
  readonly closed: Readonly<Record<Side, Promise<Closed>>>;
  readonly #ends: Readonly<Record<Side, Deferred<Closed>>> = {
    client: deferred<Closed>(),
    server: deferred<Closed>(),
  };
  readonly #open: Record<Side, boolean> = { client: true, server: true };
  readonly #arrival: Record<Side, number> = { client: 0, server: 0 };
  readonly #latency: number;
  readonly #streams = new Set<AnswerStream>();
  readonly #serving = new Set<AbortController>();
  readonly #piece = new Map<AnswerStream, Piece>();
  #cut = false;
  /** Broken off in the middle of a message: nothing comes behind it. */
  #broken = false;

  constructor(o: {
    world: World;
    weather: Weather;
    client: Program;
    server: Program;
    kind: Kind;
    lostCode: DecoError["code"];
  }) {
    this.#lostCode = o.lostCode;
    this.#kind = o.kind;
    this.world = o.world;
    this.weather = o.weather;
    this.programs = { client: o.client, server: o.server };
    this.closed = { client: this.#ends.client.promise, server: this.#ends.server.promise };
    this.#latency = o.weather.latency(o.kind === "hub" ? 8000 : 2000);
    o.client.onDeath.push(() => this.cut());
    o.server.onDeath.push(() => this.cut());
  }

  isOpen(side: Side): boolean {
    return this.#open[side] && this.programs[side].alive;
  }

  /** Runs `act` at the other end when the message has arrived, if both ends last so long. */
  send(from: Side, act: () => void, extraMs = 0): void {
    const to = OTHER[from];
    if (this.#cut || this.#broken || !this.isOpen(from)) return;
    const at = Math.max(this.world.now + this.#latency + extraMs, this.#arrival[to]);
    this.#arrival[to] = at;
    this.world.schedule(this.programs[to], at - this.world.now, () => {
      if (!this.#cut && this.#open[to]) act();
    });
  }

  /** The line breaks without a word. */
  cut(): void {
    if (this.#cut) return;
    this.#cut = true;
    for (const side of ["client", "server"] as const) {
      if (!this.isOpen(side)) continue;
      const end = () => this.#end(side, { code: 1006, reason: "broken" });
      this.world.schedule(this.programs[side], this.weather.noticed(), end);
    }
  }

  /** One end says goodbye. */
  close(side: Side, code: number, reason: string): void {
    if (!this.#open[side]) return;
    this.send(side, () => this.#end(OTHER[side], { code, reason }));
    this.#end(side, { code, reason });
  }

  #end(side: Side, closed: Closed): void {
    if (!this.#open[side]) return;
    this.#open[side] = false;
    this.world.trace(`end of a line: ${closed.code} ${closed.reason}`);
    for (const stream of this.#streams) if (stream.side === side) stream.fail(this.#lost(closed));
    for (const abort of this.#serving) abort.abort(this.#lost(closed));
    this.#ends[side].resolve(closed);
  }

  /** Asks the other end; its handler answers. */
  request(side: Side, request: WireRequest, handler: Handler): Promise<WireAnswer> {
    request.signal.throwIfAborted();
    if (!this.isOpen(side)) throw this.#lost({ code: 1006, reason: "closed" });
    const serving = new AbortController();
    const stream = answerStream(side, request.signal, {
      onEnd: () => this.#streams.delete(stream),
      onLeave: () => this.send(side, () => serving.abort(new Error("the asker left"))),
    });
    this.#streams.add(stream);
    const { weather } = this;
    if (this.#strikes("request_lost", weather.climate.requestLost)) {
      this.cut();
      return stream.head;
    }
    const deliver = (to: AnswerStream | undefined) => {
      this.world.trace(`${request.method} ${request.url}`);
      const abort = to === undefined ? new AbortController() : serving;
      this.#serve(OTHER[side], { ...request, signal: abort.signal }, handler, to)
        .catch((error: unknown) => this.world.trace(`serving failed: ${String(error)}`))
        .finally(() => this.#serving.delete(abort));
      this.#serving.add(abort);
    };
    this.send(side, () => deliver(stream));
    if (this.#strikes("request_doubled", weather.climate.requestDoubled)) {
      this.send(side, () => deliver(undefined), weather.chance.real(0, 2000));
    }
    return stream.head;
  }

  async #serve(
    side: Side,
    { method, url, headers, body, signal }: WireRequest,
    handler: Handler,
    stream: AnswerStream | undefined,
  ): Promise<void> {
    const init = { method, headers, signal, ...(body === undefined ? {} : { body }) };
    const response = await handler(new Request(url, init));
    if (stream === undefined) {
      await response.body?.cancel();
      return;
    }
    const { weather } = this;
    if (this.#strikes("answer_lost", weather.climate.answerLost)) {
      this.cut();
      await response.body?.cancel();
      return;
    }
    const { status } = response;
    const answerHeaders = [...response.headers];
    this.send(side, () => stream.answer(status, answerHeaders));
    await this.#pump(side, response, stream, signal);
  }

  async #pump(side: Side, response: Response, stream: AnswerStream, signal: AbortSignal) {
    const events = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
    const reader = response.body?.getReader();
    const onAbort = () => void reader?.cancel().catch(() => undefined);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      for (;;) {
        const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
        if (done || value === undefined) break;
        if (!this.isOpen(side)) {
          onAbort();
          return;
        }
        this.#chunk(side, stream, value, events);
      }
      this.send(side, () => stream.end());
    } catch {
      this.send(side, () =>
        stream.fail(this.#lost({ code: 1006, reason: "the answer broke off" })),
      );
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  #chunk(side: Side, stream: AnswerStream, chunk: Uint8Array, events: boolean): void {
    if (this.#broken) return;
    const { weather, world } = this;
    const { climate } = weather;
    let bytes = chunk;
    const breaks = events && this.#strikes("cut_in_answer", climate.cutInAnswer);
    if (breaks) bytes = chunk.subarray(0, weather.chance.int(0, chunk.length));
    const copies = events && !breaks && this.#strikes("line_doubled", climate.lineDoubled) ? 2 : 1;
    if (events) bytes = this.#forged(bytes);
    const last = this.#piece.get(stream);
    const piece = last?.sentAt === world.now ? last : { stream, sentAt: world.now, chunks: [] };
    for (let i = 0; i < copies; i += 1) piece.chunks.push(bytes);
    if (piece !== last) {
      this.#piece.set(stream, piece);
      this.send(side, () => {
        if (this.#piece.get(stream) === piece) this.#piece.delete(stream);
        stream.push(Buffer.concat(piece.chunks));
      });
    }
    if (!breaks) return;
    this.#broken = true;
    const arrived = this.#arrival[OTHER[side]] + 1 - world.now;
    world.schedule(world.outside, arrived, () => this.cut());
  }

  /** Somebody on the way changes what a line says, and nothing else of it. */
  #forged(bytes: Uint8Array): Uint8Array {
    const { weather } = this;
    if (weather.climate.lineForged === 0 || this.#kind !== "tunnel") return bytes;
    const text = Buffer.from(bytes).toString();
    if (!text.includes('"word":"')) return bytes;
    if (!this.#strikes("line_forged", weather.climate.lineForged)) return bytes;
    return Buffer.from(text.replace(/"word":"[a-z]+"/, '"word":"forged"'));
  }

  #strikes(fault: Fault, p: number): boolean {
    if (!this.weather.strikes(fault, p)) return false;
    if (this.#kind === "harness") this.weather.harnessTroubles += 1;
    return true;
  }

  #lost({ code, reason }: Closed): DecoError {
    return new DecoError(this.#lostCode, `the connection is gone: ${code} ${reason}`);
  }
}
