import { encodeFrames, FRAME, FRAME_LIMITS, type Frame, frameBytes } from "./frames.ts";
import type { StreamFailure } from "./mux-stream.ts";

const MESSAGE_BYTES = 64 * 1024;

/** Messages of whole frames, at most 64 KiB each, unless one frame alone is larger. */
export function* batches(frames: readonly Frame[]): Generator<Uint8Array> {
  let batch: Frame[] = [];
  let bytes = 0;
  for (const frame of frames) {
    if (bytes > 0 && bytes + frameBytes(frame) > MESSAGE_BYTES) {
      yield encodeFrames(batch, bytes);
      batch = [];
      bytes = 0;
    }
    batch.push(frame);
    bytes += frameBytes(frame);
  }
  if (bytes > 0) yield encodeFrames(batch, bytes);
}

export function resetFrame(stream: number, code: string): Frame {
  const payload = new TextEncoder().encode(code).subarray(0, FRAME_LIMITS.controlBytes);
  return { type: FRAME.reset, flags: 0, stream, payload };
}

export function resetFailure(payload: Uint8Array): StreamFailure {
  const code = new TextDecoder().decode(payload);
  return { code, lost: false, mayHaveExecuted: code !== "tunnel_refused" };
}

export function readOr<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

export function readU32(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0);
}
