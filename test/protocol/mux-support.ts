import {
  decodeFrames,
  encodeFrames,
  encodeHead,
  type Frame,
  frameBytes,
} from "../../src/protocol/frames.ts";
import { Mux } from "../../src/protocol/mux.ts";
import type { MuxOptions } from "../../src/protocol/mux-options.ts";
import type { StreamEvents, StreamFailure } from "../../src/protocol/mux-stream.ts";

export const GET = { method: "GET", path: "/", headers: [] } as const;
export const KIB = 1024;

/** One end with a scripted far side: what it sent, and a socket whose queue the test sets. */
export function end(options: Partial<MuxOptions> = {}) {
  const sent: Frame[] = [];
  const messages: number[] = [];
  const faults: { code: number; reason: string }[] = [];
  const ticks: (() => void)[] = [];
  const socket = { queued: 0, fills: false };
  const mux = new Mux({
    role: "hub",
    send(message) {
      sent.push(...decodeFrames(message));
      messages.push(message.byteLength);
      if (socket.fills) socket.queued += message.byteLength;
    },
    buffered: () => socket.queued,
    schedule: (flush) => ticks.push(flush),
    onFault: (code, reason) => faults.push({ code, reason }),
    ...options,
  });
  const tick = () => {
    for (let next = ticks.shift(); next; next = ticks.shift()) next();
  };
  const feed = (
    type: number,
    stream: number,
    payload: Uint8Array = new Uint8Array(0),
    flags = 0,
  ) => {
    const frame = { type, stream, payload, flags };
    mux.receive(encodeFrames([frame], frameBytes(frame)));
    tick();
  };
  return { mux, sent, messages, faults, socket, tick, feed };
}

export function owner() {
  const heard = { heads: 0, bytes: 0, ends: 0, drains: 0, failures: [] as StreamFailure[] };
  const events: StreamEvents = {
    onHead: () => heard.heads++,
    onData: (bytes) => {
      heard.bytes += bytes.byteLength;
    },
    onEnd: () => heard.ends++,
    onReset: (failure) => heard.failures.push(failure),
    onDrain: () => heard.drains++,
  };
  return { heard, events };
}

export const OK = encodeHead({ status: 200, headers: [] });
export const u32 = (value: number) =>
  new Uint8Array([value >>> 24, value >>> 16, value >>> 8, value].map((byte) => byte & 255));
export const ofType = (frames: readonly Frame[], type: number) =>
  frames.filter((frame) => frame.type === type);
