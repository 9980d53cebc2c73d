import { describe, expect, test } from "bun:test";
import { DecoError } from "../../src/protocol/errors.ts";
import {
  decodeFrames,
  decodeRequestHead,
  decodeResponseHead,
  encodeFrames,
  encodeHead,
  FRAME,
  FRAME_LIMITS,
  type Frame,
  frameBytes,
} from "../../src/protocol/frames.ts";

const text = (value: string) => new TextEncoder().encode(value);
const message = (frames: Frame[]) =>
  encodeFrames(
    frames,
    frames.reduce((sum, frame) => sum + frameBytes(frame), 0),
  );
const frame = (
  type: number,
  payload: Uint8Array = new Uint8Array(0),
  stream = 1,
  flags = 0,
): Frame => ({
  type,
  flags,
  stream,
  payload,
});

/** A small generator with a seed, so that a failure can be run again. */
function randomly(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % below;
  };
}

describe("frames", () => {
  test("have the bytes that PROTOCOL.md shows", () => {
    const bytes = message([frame(FRAME.data, text("hi"), 0x01020304, 1)]);
    expect([...bytes]).toEqual([3, 1, 1, 2, 3, 4, 0, 0, 0, 2, 104, 105]);
  });

  test("come back as they were sent, many in one message", () => {
    const frames = [
      frame(FRAME.request, encodeHead({ method: "GET", path: "/", headers: [] })),
      frame(FRAME.data, new Uint8Array(FRAME_LIMITS.dataBytes).fill(7), 0xffffffff, 1),
      frame(FRAME.window, new Uint8Array(4)),
      frame(200, text("of a newer peer")),
      frame(FRAME.data),
    ];
    expect(decodeFrames(message(frames))).toEqual(frames);
    expect(decodeFrames(new Uint8Array(0))).toEqual([]);
  });

  test("that are cut off anywhere are refused", () => {
    const whole = message([frame(FRAME.data, text("hello")), frame(FRAME.reset, text("x"))]);
    for (let end = 1; end < whole.length; end++) {
      if (end === 15) continue; // between the two
      expect(() => decodeFrames(whole.subarray(0, end))).toThrow(DecoError);
    }
  });

  test("over their type's limit are refused", () => {
    const limits = { 1: 65_536, 2: 65_536, 3: 32_768, 4: 256, 5: 256, 6: 256, 99: 256 };
    for (const [type, limit] of Object.entries(limits)) {
      const fits = message([frame(Number(type), new Uint8Array(limit))]);
      expect(decodeFrames(fits)).toHaveLength(1);
      const over = message([frame(Number(type), new Uint8Array(limit + 1))]);
      expect(() => decodeFrames(over)).toThrow(DecoError);
    }
    expect(() => decodeFrames(new Uint8Array(FRAME_LIMITS.messageBytes + 1))).toThrow(DecoError);
  });

  test("of random bytes never do anything but decode or throw a DecoError", () => {
    const random = randomly(42);
    const heads = [
      message([
        frame(FRAME.request, encodeHead({ method: "GET", path: "/a", headers: [["a", "b"]] })),
      ]),
      message([frame(FRAME.data, text("hello world")), frame(FRAME.window, new Uint8Array(4))]),
    ];
    let decoded = 0;
    for (let round = 0; round < 100_000; round++) {
      const source = heads[random(2)] ?? new Uint8Array();
      const bytes = source.slice(0, random(4) === 0 ? random(source.length + 1) : source.length);
      for (let flips = random(4); flips > 0; flips--)
        bytes[random(bytes.length || 1)] = random(256);
      try {
        for (const { type, payload } of decodeFrames(bytes)) {
          if (type === FRAME.request) decodeRequestHead(payload);
          if (type === FRAME.response) decodeResponseHead(payload);
        }
        decoded++;
      } catch (error) {
        if (!(error instanceof DecoError)) throw error;
      }
    }
    expect(decoded).toBeGreaterThan(10_000);
    expect(decoded).toBeLessThan(90_000);
  });
});

describe("heads", () => {
  test("keep repeated headers and order", () => {
    const head = {
      method: "PUT",
      path: "/x?y=%20",
      headers: [
        ["set-cookie", "a"],
        ["set-cookie", "b"],
      ] as const,
      upgrade: true as const,
    };
    expect(decodeRequestHead(encodeHead(head))).toEqual(head);
    const answer = { status: 101, headers: [["x", "grüße"]] as const };
    expect(decodeResponseHead(encodeHead(answer))).toEqual(answer);
  });

  test("that could smuggle something are refused", () => {
    const refused: unknown[] = [
      null,
      [],
      "x",
      { method: "GET" },
      { method: "get it", path: "/", headers: [] },
      { method: "GET", path: "x", headers: [] },
      { method: "GET", path: "/ HTTP/1.1\r\nx: y", headers: [] },
      { method: "GET", path: "//evil\n", headers: [] },
      { method: "GET", path: "/", headers: {} },
      { method: "GET", path: "/", headers: [["a"]] },
      { method: "GET", path: "/", headers: [["a:b", "c"]] },
      { method: "GET", path: "/", headers: [["a", "b\r\nc: d"]] },
      { method: "GET", path: "/", headers: [["a", 1]] },
    ];
    for (const head of refused)
      expect(() => decodeRequestHead(text(JSON.stringify(head)))).toThrow(DecoError);
    expect(() => decodeRequestHead(text("{"))).toThrow(DecoError);
    for (const status of [99, 100, 600, 200.5, "200", undefined])
      expect(() => decodeResponseHead(text(JSON.stringify({ status, headers: [] })))).toThrow(
        DecoError,
      );
  });

  test("over 64 KiB are refused before they are sent", () => {
    const headers = [["a", "x".repeat(65_536)]] as const;
    expect(() => encodeHead({ status: 200, headers })).toThrow("head of");
  });
});
