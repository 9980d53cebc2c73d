import { decodeFrames, encodeFrames, type Frame, frameBytes } from "../../src/protocol/frames.ts";

/** One message of a tunnel as it is on the line, with what is in it. */
export interface WireMessage {
  readonly bytes: Buffer;
  readonly frames: readonly Frame[];
}

/** Bytes of the header of a WebSocket frame at the beginning of `buffer`; undefined when torn. */
function headerOf(buffer: Buffer) {
  if (buffer.length < 2) return undefined;
  const masked = ((buffer[1] ?? 0) & 0x80) !== 0;
  const short = (buffer[1] ?? 0) & 0x7f;
  const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
  const headerBytes = 2 + lengthBytes + (masked ? 4 : 0);
  if (buffer.length < headerBytes) return undefined;
  const length =
    lengthBytes === 2
      ? buffer.readUInt16BE(2)
      : lengthBytes === 8
        ? Number(buffer.readBigUInt64BE(2))
        : short;
  return { opcode: (buffer[0] ?? 0) & 0x0f, masked, headerBytes, length };
}

/** The first whole WebSocket frame in `buffer`; undefined while there is none. */
export function takeMessage(buffer: Buffer): WireMessage | undefined {
  const header = headerOf(buffer);
  if (header === undefined) return undefined;
  const { headerBytes, length, masked, opcode } = header;
  if (buffer.length < headerBytes + length) return undefined;
  const bytes = buffer.subarray(0, headerBytes + length);
  if (opcode !== 2) return { bytes, frames: [] };
  const payload = Buffer.from(bytes.subarray(headerBytes));
  const mask = masked ? bytes.subarray(headerBytes - 4, headerBytes) : undefined;
  if (mask?.some((byte) => byte !== 0))
    for (let at = 0; at < payload.length; at += 1)
      payload[at] = (payload[at] ?? 0) ^ (mask[at % 4] ?? 0);
  return { bytes, frames: decodeFrames(payload) };
}

/** A daemon's message (masked with zeros) with these frames in it. */
export function daemonMessage(frames: readonly Frame[]): Buffer {
  const bytes = frames.reduce((sum, frame) => sum + frameBytes(frame), 0);
  const payload = encodeFrames(frames, bytes);
  const header = Buffer.alloc(14);
  header[0] = 0x82;
  header[1] = 0x80 | 127;
  header.writeBigUInt64BE(BigInt(payload.byteLength), 2);
  return Buffer.concat([header, payload]);
}
