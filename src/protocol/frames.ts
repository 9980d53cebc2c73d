import { DecoError } from "./errors.ts";

/** Frame types of the tunnel. A number never changes its meaning; a reader skips unknown ones. */
export const FRAME = {
  request: 1,
  response: 2,
  data: 3,
  reset: 4,
  window: 5,
  ping: 6,
  pong: 7,
  goaway: 8,
} as const;

/** Flag: the sender sends no more on this stream. */
export const END = 1;

/** type u8, flags u8, stream u32, length u32; numbers are big-endian. */
export const FRAME_HEADER_BYTES = 10;

export const FRAME_LIMITS = {
  headBytes: 64 * 1024,
  dataBytes: 32 * 1024,
  /** Payload of every type that is neither a head nor data. */
  controlBytes: 256,
  /** One WebSocket message; holds one or more whole frames. */
  messageBytes: 256 * 1024,
} as const;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  /** 0 for the connection itself (ping, pong, goaway). */
  readonly stream: number;
  readonly payload: Uint8Array;
}

/** Head of a request. Headers are a list: repeated ones are kept. */
export interface RequestHead {
  readonly method: string;
  /** Path with query. */
  readonly path: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** After an answer with 101 both directions are raw bytes. */
  readonly upgrade?: true;
}

export interface ResponseHead {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** Bytes that the frame takes on the wire. */
export function frameBytes(frame: Frame): number {
  return FRAME_HEADER_BYTES + frame.payload.byteLength;
}

/** One message from whole frames; `bytes` is the sum of their {@link frameBytes}. */
export function encodeFrames(frames: readonly Frame[], bytes: number): Uint8Array {
  const message = new Uint8Array(bytes);
  const view = new DataView(message.buffer);
  let at = 0;
  for (const { type, flags, stream, payload } of frames) {
    message[at] = type;
    message[at + 1] = flags;
    view.setUint32(at + 2, stream);
    view.setUint32(at + 6, payload.byteLength);
    message.set(payload, at + FRAME_HEADER_BYTES);
    at += FRAME_HEADER_BYTES + payload.byteLength;
  }
  return message;
}

/**
 * The frames of one message; payloads are views into it.
 *
 * @throws {@link DecoError} `invalid_request` for a message or frame that is cut off or over its limit.
 * @see PROTOCOL.md, section "Tunnel"
 */
export function decodeFrames(message: Uint8Array): Frame[] {
  if (message.byteLength > FRAME_LIMITS.messageBytes)
    throw new DecoError("invalid_request", `a message of ${message.byteLength} bytes`);
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const frames: Frame[] = [];
  let at = 0;
  while (at < message.byteLength) {
    if (message.byteLength - at < FRAME_HEADER_BYTES)
      throw new DecoError("invalid_request", "a frame's header is cut off");
    const type = view.getUint8(at);
    const length = view.getUint32(at + 6);
    if (length > payloadLimit(type))
      throw new DecoError("invalid_request", `a frame of type ${type} with ${length} bytes`);
    const start = at + FRAME_HEADER_BYTES;
    const end = start + length;
    if (end > message.byteLength)
      throw new DecoError("invalid_request", "a frame's payload is cut off");
    const payload = message.subarray(start, end);
    frames.push({ type, flags: view.getUint8(at + 1), stream: view.getUint32(at + 2), payload });
    at = end;
  }
  return frames;
}

function payloadLimit(type: number): number {
  switch (type) {
    case FRAME.request:
    case FRAME.response:
      return FRAME_LIMITS.headBytes;
    case FRAME.data:
      return FRAME_LIMITS.dataBytes;
    default:
      return FRAME_LIMITS.controlBytes;
  }
}

/** @throws {@link DecoError} `invalid_request` when the head is over its limit. */
export function encodeHead(head: RequestHead | ResponseHead): Uint8Array {
  const payload = new TextEncoder().encode(JSON.stringify(head));
  if (payload.byteLength > FRAME_LIMITS.headBytes)
    throw new DecoError("invalid_request", `a head of ${payload.byteLength} bytes`, {
      fix: "Send shorter headers, or fewer.",
    });
  return payload;
}

/** @throws {@link DecoError} `invalid_request` when it is no head of a request. */
export function decodeRequestHead(payload: Uint8Array): RequestHead {
  const { method, path, headers, upgrade } = parseHead(payload);
  const fits =
    typeof method === "string" &&
    /^[A-Z][A-Z-]{0,31}$/.test(method) &&
    method !== "TRACE" && // of one connection, not of what it passes through
    method !== "CONNECT" &&
    typeof path === "string" &&
    /^\/[\x21-\x7e]*$/.test(path);
  if (!fits) throw new DecoError("invalid_request", "a request's head without method or path");
  return { method, path, headers: headerList(headers), ...(upgrade === true ? { upgrade } : {}) };
}

/** @throws {@link DecoError} `invalid_request` when it is no head of an answer. */
export function decodeResponseHead(payload: Uint8Array): ResponseHead {
  const { status, headers } = parseHead(payload);
  if (typeof status !== "number" || !Number.isInteger(status) || status < 101 || status > 599)
    throw new DecoError("invalid_request", "an answer's head without a status");
  return { status, headers: headerList(headers) };
}

function parseHead(payload: Uint8Array): Record<string, unknown> {
  try {
    const head: unknown = JSON.parse(new TextDecoder().decode(payload));
    if (typeof head === "object" && head !== null) return { ...head };
  } catch {
    // Told below.
  }
  throw new DecoError("invalid_request", "a head that is no JSON object");
}

function headerList(value: unknown): (readonly [string, string])[] {
  if (!Array.isArray(value)) throw new DecoError("invalid_request", "a head without headers");
  return value.map((pair: unknown) => {
    const [name, text]: unknown[] = Array.isArray(pair) ? pair : [];
    const fits =
      typeof name === "string" &&
      typeof text === "string" &&
      /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) &&
      /^[\t\x20-\x7e\x80-\xff]*$/.test(text);
    if (!fits) throw new DecoError("invalid_request", "a header that is no header");
    return [name, text] as const;
  });
}
