import { describe, expect, test } from "bun:test";
import { END, encodeHead, FRAME } from "../../src/protocol/frames.ts";
import type { MuxStream } from "../../src/protocol/mux-stream.ts";
import { end, GET, KIB, OK, ofType, owner, u32 } from "./mux-support.ts";

describe("a mux", () => {
  test("puts a tick's frames into one message: a small answer is one message", () => {
    let answered: MuxStream | undefined;
    const daemon = end({
      role: "daemon",
      onRequest(stream) {
        answered = stream;
        stream.listen(owner().events);
        stream.respond({ status: 200, headers: [] }, false);
        stream.write(new Uint8Array(10));
        stream.end();
      },
    });
    daemon.feed(FRAME.request, 1, encodeHead(GET), END);
    expect(daemon.messages).toHaveLength(1);
    expect(daemon.sent.map((frame) => [frame.type, frame.flags])).toEqual([
      [FRAME.response, 0],
      [FRAME.data, END],
    ]);
    expect(answered?.closed).toBe(true);
    expect(daemon.mux.size).toBe(0);
  });

  test("sends 256 KiB without credit and not a byte more, in pieces of 32 KiB", () => {
    const { mux, sent, tick, feed } = end();
    const { heard, events } = owner();
    const stream = mux.open(GET, false, events);
    expect(stream.write(new Uint8Array(300 * KIB))).toBe(false);
    tick();
    const data = () => ofType(sent, FRAME.data);
    expect(data().map((frame) => frame.payload.byteLength)).toEqual(Array(8).fill(32 * KIB));
    stream.end();
    tick();
    expect(data()).toHaveLength(8);
    feed(FRAME.window, 1, u32(40 * KIB));
    expect(
      data()
        .slice(8)
        .map((frame) => [frame.payload.byteLength, frame.flags]),
    ).toEqual([
      [32 * KIB, 0],
      [8 * KIB, 0],
    ]);
    feed(FRAME.window, 1, u32(100 * KIB));
    expect(data().at(-1)).toMatchObject({ flags: END });
    expect(heard.failures).toEqual([]);
  });

  test("gives credit back only for what the owner took", () => {
    const { mux, sent, feed, tick } = end();
    const { heard, events } = owner();
    const stream = mux.open(GET, true, events);
    feed(FRAME.response, 1, OK);
    for (let i = 0; i < 8; i++) feed(FRAME.data, 1, new Uint8Array(32 * KIB));
    expect(heard.bytes).toBe(256 * KIB);
    expect(ofType(sent, FRAME.window)).toEqual([]);
    stream.consumed(63 * KIB);
    tick();
    expect(ofType(sent, FRAME.window)).toEqual([]);
    stream.consumed(KIB);
    tick();
    expect(ofType(sent, FRAME.window).map((frame) => frame.payload)).toEqual([u32(64 * KIB)]);
    feed(FRAME.data, 1, new Uint8Array(32 * KIB));
    expect(heard.failures).toEqual([]);
  });

  test("resets a peer's stream that breaks its credit, and no other", () => {
    const { mux, sent, feed, faults } = end();
    const bad = owner();
    const good = owner();
    mux.open(GET, true, bad.events);
    mux.open(GET, true, good.events);
    feed(FRAME.response, 1, OK);
    feed(FRAME.response, 3, OK);
    for (let i = 0; i < 9; i++) feed(FRAME.data, 1, new Uint8Array(32 * KIB));
    expect(bad.heard.bytes).toBe(256 * KIB);
    expect(bad.heard.failures).toMatchObject([{ code: "flow_control", lost: false }]);
    expect(ofType(sent, FRAME.reset).map((frame) => frame.stream)).toEqual([1]);
    feed(FRAME.data, 1, new Uint8Array(KIB)); // still under way: no fault
    feed(FRAME.data, 3, new Uint8Array(KIB), END);
    expect(good.heard).toMatchObject({ bytes: KIB, ends: 1, failures: [] });
    expect(faults).toEqual([]);
  });

  test("resets a stream whose peer gives more credit than it has", () => {
    const { mux, feed } = end();
    const { heard, events } = owner();
    mux.open(GET, false, events);
    feed(FRAME.window, 1, u32(1));
    expect(heard.failures).toMatchObject([{ code: "flow_control" }]);
  });

  test("keeps the socket's queue short, and heads, ends, resets and windows never wait for it", () => {
    const { mux, sent, socket, tick } = end();
    socket.fills = true;
    const bulk = mux.open(GET, false, owner().events);
    const other = mux.open(GET, false, owner().events);
    bulk.write(new Uint8Array(256 * KIB));
    tick();
    expect(socket.queued).toBeGreaterThanOrEqual(64 * KIB);
    expect(socket.queued).toBeLessThan(100 * KIB);
    const before = sent.length;
    mux.open(GET, true, owner().events);
    other.reset("internal");
    mux.ping(new Uint8Array(8));
    tick();
    expect(sent.slice(before).map((frame) => frame.type)).toEqual([
      FRAME.request,
      FRAME.reset,
      FRAME.ping,
    ]);
    socket.queued = 0;
    mux.pump();
    tick();
    expect(sent.at(-1)?.type).toBe(FRAME.data);
  });

  test("takes turns between streams", () => {
    const { mux, sent, tick } = end();
    for (let i = 0; i < 3; i++)
      mux.open(GET, false, owner().events).write(new Uint8Array(96 * KIB));
    tick();
    mux.pump();
    tick();
    const order = ofType(sent, FRAME.data).map((frame) => frame.stream);
    expect(order).toEqual([1, 3, 5, 1, 3, 5, 1, 3, 5]);
  });

  test("wakes a writer when its queue is short again", () => {
    const { mux, tick, socket } = end();
    const { heard, events } = owner();
    socket.queued = 64 * KIB;
    const stream = mux.open(GET, false, events);
    expect(stream.write(new Uint8Array(63 * KIB))).toBe(true);
    expect(stream.write(new Uint8Array(KIB))).toBe(false);
    tick();
    expect(heard.drains).toBe(0);
    socket.queued = 0;
    mux.pump();
    expect(heard.drains).toBe(1);
  });

  test("sends an end behind its own data, and a reset asked for after it behind both", () => {
    const daemon = end({
      role: "daemon",
      onRequest(stream) {
        stream.listen(owner().events);
        stream.respond({ status: 200, headers: [] }, false);
        stream.write(new Uint8Array(100));
        stream.end();
        stream.discard();
      },
    });
    daemon.feed(FRAME.request, 1, encodeHead(GET));
    expect(daemon.sent.map((frame) => frame.type)).toEqual([
      FRAME.response,
      FRAME.data,
      FRAME.reset,
    ]);
    expect(daemon.mux.size).toBe(0);
  });
});
