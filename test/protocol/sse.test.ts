import { describe, expect, test } from "bun:test";
import { encodeSse, SseDecoder, type SseFrame } from "../../src/protocol/sse.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

function decode(text: string, chunkBytes = Number.POSITIVE_INFINITY): SseFrame[] {
  const decoder = new SseDecoder();
  const all = bytes(text);
  const frames: SseFrame[] = [];
  for (let at = 0; at < all.length; at += chunkBytes)
    frames.push(...decoder.push(all.subarray(at, at + chunkBytes)));
  return frames;
}

describe("an event stream", () => {
  const text =
    "\uFEFF: hello\r\nid: 1\r\nevent: a\r\ndata: grüße 🦊\r\ndata:  two\r\n\r\n" +
    "data\n\nevent: without-data\n\nretry: 250\rid: 2\rdata: x:y\r\rdata: unfinished\n";
  const frames: SseFrame[] = [
    { id: "1", event: "a", data: "grüße 🦊\n two" },
    { data: "" },
    { id: "2", retry: 250, data: "x:y" },
  ];

  test("reads the same however it is cut into chunks", () => {
    for (const size of [1, 2, 3, 5, 7, 64, 10_000]) expect(decode(text, size)).toEqual(frames);
  });

  test("gives an event as soon as its blank line is there, though a CR may be half a CRLF", () => {
    const decoder = new SseDecoder();
    expect(decoder.push(bytes("data: 1\r\n\r"))).toEqual([{ data: "1" }]);
    expect(decoder.push(bytes("\ndata: 2\r\n\r\n"))).toEqual([{ data: "2" }]);
  });

  test("reads back what was written, line breaks and all", () => {
    const frame = { id: "7", event: "run.log", data: 'a\nb\n\n{"c":"ü"}', retry: 10 };
    expect(decode(encodeSse(frame), 3)).toEqual([frame]);
  });

  test("writes the number first, then the type, then the data", () => {
    expect(encodeSse({ data: "x", event: "e", id: "1" })).toBe("id: 1\nevent: e\ndata: x\n\n");
  });

  test("can't be given a second field through a line break in an id", () => {
    expect(decode(encodeSse({ id: "1\ndata: evil", data: "x" }))).toEqual([
      { id: "1data: evil", data: "x" },
    ]);
  });

  test("ignores an id with NUL and a retry that is no number", () => {
    expect(decode("id: a\0b\nretry: soon\nunknown: 1\ndata: x\n\n")).toEqual([{ data: "x" }]);
  });

  test("refuses an event over the limit, whether one line or many", () => {
    const long = new SseDecoder({ maxEventChars: 1000 });
    expect(() => {
      for (let i = 0; i < 30; i++) long.push(bytes("data: ".padEnd(50, "x")));
    }).toThrow("over 1000");
    const many = new SseDecoder({ maxEventChars: 1000 });
    expect(() => many.push(bytes("data: x\n".repeat(600)))).toThrow("over 1000");
    const fine = new SseDecoder({ maxEventChars: 1000 });
    expect(fine.push(bytes("data: x\n\n".repeat(600)))).toHaveLength(600);
  });
});
