import { DecoError } from "./errors.ts";
import {
  decodeFrames,
  decodeRequestHead,
  decodeResponseHead,
  END,
  encodeHead,
  FRAME,
  FRAME_LIMITS,
  type Frame,
  type RequestHead,
  type ResponseHead,
} from "./frames.ts";
import { readOr, readU32, resetFailure, resetFrame, u32 } from "./mux-frames.ts";
import type { MuxOptions } from "./mux-options.ts";
import { MuxOutbox } from "./mux-outbox.ts";
import { MuxStream, type StreamEvents, type StreamHost } from "./mux-stream.ts";

/** WebSocket close codes of the tunnel. */
export const CLOSE = {
  superseded: 4000,
  revoked: 4001,
  draining: 4002,
  protocolError: 4003,
  deadPeer: 4004,
} as const;

/**
 * Many streams over one ordered connection of messages. Pure: bytes in by {@link Mux.receive}, bytes
 * out by `options.send`. Both ends are this type. Nothing in here waits: a stopped consumer holds
 * its own stream's credit and nothing else.
 *
 * @see PROTOCOL.md, section "Tunnel"
 */
export class Mux implements StreamHost {
  readonly #options: MuxOptions;
  readonly #streams = new Map<number, MuxStream>();
  readonly #ready: MuxStream[] = [];
  readonly #outbox: MuxOutbox;
  #closed = false;
  #nextId: number;
  #lastPeerId = 0;
  #peerStreams = 0;
  #peerLeaves = false;
  #leaving = false;

  constructor(options: MuxOptions) {
    this.#options = options;
    this.#nextId = options.role === "hub" ? 1 : 2;
    this.#outbox = new MuxOutbox({
      send: options.send,
      buffered: options.buffered,
      schedule: options.schedule,
      fill: () => this.pump(),
      onOverflow: () => this.#fault("the peer does not read"),
    });
  }

  /** Streams that are open, whoever opened them. */
  get size(): number {
    return this.#streams.size;
  }

  /** Whether a new stream may be opened from here. */
  get accepting(): boolean {
    return !this.#closed && !this.#peerLeaves;
  }

  /**
   * Opens a stream. `end` = the request has no body.
   *
   * @throws {@link DecoError} `tunnel_lost` when closed or the peer leaves, `tunnel_refused` when full.
   */
  open(head: RequestHead, end: boolean, events: StreamEvents): MuxStream {
    if (!this.accepting)
      throw new DecoError("tunnel_lost", "the tunnel takes no new streams", NOT_EXECUTED);
    if (this.#streams.size >= (this.#options.maxStreams ?? MAX_STREAMS))
      throw new DecoError("tunnel_refused", `${this.#streams.size} streams are open`, NOT_EXECUTED);
    const payload = encodeHead(head);
    const stream = new MuxStream(this.#nextId, this, true);
    this.#nextId += 2;
    stream.listen(events);
    this.#streams.set(stream.id, stream);
    this.#sendControl(FRAME.request, end ? END : 0, stream.id, payload);
    if (end) stream.markEndSent();
    return stream;
  }

  /** Takes one message of the peer. Never throws: a broken peer is told to `onFault`. */
  receive(message: Uint8Array): void {
    if (this.#closed) return;
    try {
      for (const frame of decodeFrames(message)) {
        if (this.#closed) return;
        this.#take(frame);
      }
    } catch (error) {
      this.#fault(error instanceof Error ? error.message : "broken frames");
    }
  }

  ping(payload: Uint8Array): void {
    this.#sendControl(FRAME.ping, 0, 0, payload);
  }

  /** Takes no more streams; those that are open go on. */
  goaway(): void {
    if (this.#leaving || this.#closed) return;
    this.#leaving = true;
    this.#sendControl(FRAME.goaway, 0, 0, u32(this.#lastPeerId));
  }

  /** The connection is gone: every open stream fails. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#outbox.close();
    for (const stream of this.#streams.values())
      stream.fail({ code: "tunnel_lost", lost: true, mayHaveExecuted: true });
    this.#streams.clear();
  }

  /** Sends data while the socket's queue is short, one piece per stream and round. */
  pump(): void {
    while (this.#ready.length > 0 && !this.#closed && this.#outbox.hasRoom) {
      const stream = this.#ready.shift();
      if (!stream) break;
      stream.armed = false;
      if (!stream.sendable) continue;
      const { bytes, end } = stream.take(FRAME_LIMITS.dataBytes);
      const flags = end ? END : 0;
      this.#outbox.data({ type: FRAME.data, flags, stream: stream.id, payload: bytes });
      stream.taken(end);
      if (stream.sendable) this.arm(stream);
    }
  }

  // What streams ask for.

  arm(stream: MuxStream): void {
    if (stream.armed || !stream.sendable) return;
    stream.armed = true;
    this.#ready.push(stream);
    this.#outbox.schedule();
  }

  sendHead(stream: MuxStream, head: ResponseHead, end: boolean): void {
    this.#sendControl(FRAME.response, end ? END : 0, stream.id, encodeHead(head));
  }

  sendWindow(stream: MuxStream, bytes: number): void {
    this.#sendControl(FRAME.window, 0, stream.id, u32(bytes));
  }

  sendReset(stream: MuxStream, code: string): void {
    const frame = resetFrame(stream.id, code);
    // After its own end the peer must read that first, so the reset queues behind it.
    if (stream.halfClosed) this.#outbox.data(frame);
    else this.#outbox.control(frame);
  }

  drop(stream: MuxStream): void {
    if (!this.#streams.delete(stream.id)) return;
    if (!stream.opened) this.#peerStreams--;
    if (this.#streams.size === 0) this.#options.onIdle?.();
  }

  #take(frame: Frame): void {
    switch (frame.type) {
      case FRAME.request:
        this.#takeRequest(frame);
        return;
      case FRAME.ping:
        this.#sendControl(FRAME.pong, 0, 0, frame.payload.slice());
        return;
      case FRAME.pong:
        this.#options.onPong?.(frame.payload);
        return;
      case FRAME.goaway:
        this.#takeGoaway(frame);
        return;
      case FRAME.response:
      case FRAME.data:
      case FRAME.window:
      case FRAME.reset:
        this.#takeForStream(frame);
        return;
      default: // Of a newer peer.
    }
  }

  #takeRequest(frame: Frame): void {
    const id = frame.stream;
    const parity = this.#options.role === "hub" ? 0 : 1;
    if (id === 0 || id % 2 !== parity || id <= this.#lastPeerId) {
      this.#fault(`stream ${id} can't be opened`);
      return;
    }
    this.#lastPeerId = id;
    const full = this.#peerStreams >= (this.#options.maxStreams ?? MAX_STREAMS);
    const { onRequest } = this.#options;
    const head = readOr(() => decodeRequestHead(frame.payload));
    if (full || this.#leaving || !onRequest || !head) {
      this.#outbox.control(resetFrame(id, head ? "tunnel_refused" : "invalid_request"));
      return;
    }
    const stream = new MuxStream(id, this, false);
    this.#streams.set(id, stream);
    this.#peerStreams++;
    const ended = (frame.flags & END) !== 0;
    onRequest(stream, head, ended);
    if (ended) stream.takeEnd();
  }

  #takeForStream(frame: Frame): void {
    const stream = this.#streams.get(frame.stream);
    if (!stream) {
      if (!this.#known(frame.stream)) this.#fault(`stream ${frame.stream} was never opened`);
      return;
    }
    switch (frame.type) {
      case FRAME.response:
        this.#takeResponse(stream, frame);
        break;
      case FRAME.data:
        if (stream.opened && !stream.headSeen) this.#break(stream, "invalid_request");
        else if (!stream.takeData(frame.payload)) this.#break(stream, "flow_control");
        else if (frame.flags & END) stream.takeEnd();
        break;
      case FRAME.window:
        if (frame.payload.byteLength !== 4 || !stream.takeWindow(readU32(frame.payload)))
          this.#break(stream, "flow_control");
        break;
      default:
        stream.fail(resetFailure(frame.payload));
    }
  }

  #takeResponse(stream: MuxStream, frame: Frame): void {
    const head = readOr(() => decodeResponseHead(frame.payload));
    if (!head || !stream.opened || stream.headSeen) {
      this.#break(stream, "invalid_request");
      return;
    }
    stream.takeHead(head);
    if (frame.flags & END) stream.takeEnd();
  }

  /** A peer that breaks the rules of one stream loses that stream alone. */
  #break(stream: MuxStream, code: string): void {
    this.#outbox.control(resetFrame(stream.id, code));
    stream.fail({ code, lost: false, mayHaveExecuted: true });
  }

  #takeGoaway(frame: Frame): void {
    if (frame.payload.byteLength !== 4) {
      this.#fault("a goaway without a stream");
      return;
    }
    this.#peerLeaves = true;
    const last = readU32(frame.payload);
    for (const stream of this.#streams.values())
      if (stream.opened && stream.id > last)
        stream.fail({ code: "tunnel_lost", lost: true, mayHaveExecuted: false });
  }

  #known(id: number): boolean {
    const own = id % 2 === this.#nextId % 2;
    return id > 0 && (own ? id < this.#nextId : id <= this.#lastPeerId);
  }

  #sendControl(type: number, flags: number, stream: number, payload: Uint8Array): void {
    this.#outbox.control({ type, flags, stream, payload });
  }

  #fault(reason: string): void {
    if (!this.#closed) this.#options.onFault(CLOSE.protocolError, reason);
  }
}

const MAX_STREAMS = 1024;
const NOT_EXECUTED = { extensions: { mayHaveExecuted: false } };
