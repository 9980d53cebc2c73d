import { describe, expect, test } from "bun:test";
import { END, encodeHead, FRAME } from "../../src/protocol/frames.ts";
import type { MuxStream } from "../../src/protocol/mux-stream.ts";
import { end, GET, KIB, OK, ofType, owner, u32 } from "./mux-support.ts";

describe("a mux with a bad peer, or none", () => {
  test("faults on what no honest peer sends", () => {
    const cases: [number, number, Uint8Array][] = [
      [FRAME.request, 1, encodeHead(GET)], // the hub's own parity
      [FRAME.request, 0, encodeHead(GET)],
      [FRAME.data, 9, new Uint8Array(1)], // never opened
      [FRAME.reset, 4, new Uint8Array(0)],
      [FRAME.goaway, 0, new Uint8Array(1)],
    ];
    for (const [type, stream, payload] of cases) {
      const { feed, faults } = end();
      feed(type, stream, payload);
      expect(faults).toMatchObject([{ code: 4003 }]);
    }
    const { mux, faults } = end();
    mux.receive(new Uint8Array(3));
    expect(faults).toMatchObject([{ code: 4003 }]);
    const again = end({ role: "daemon", onRequest: (stream) => stream.listen(owner().events) });
    again.feed(FRAME.request, 5, encodeHead(GET));
    again.feed(FRAME.request, 3, encodeHead(GET));
    expect(again.faults).toMatchObject([{ code: 4003 }]);
  });

  test("refuses a stream with a broken head, above the limit, or without a handler; the rest lives", () => {
    const opened: MuxStream[] = [];
    const daemon = end({
      role: "daemon",
      maxStreams: 1,
      onRequest(stream) {
        stream.listen(owner().events);
        opened.push(stream);
      },
    });
    daemon.feed(FRAME.request, 1, new TextEncoder().encode("{}"));
    daemon.feed(FRAME.request, 3, encodeHead(GET), END);
    daemon.feed(FRAME.request, 5, encodeHead(GET), END);
    const resets = ofType(daemon.sent, FRAME.reset).map((frame) => [
      frame.stream,
      new TextDecoder().decode(frame.payload),
    ]);
    expect(resets).toEqual([
      [1, "invalid_request"],
      [5, "tunnel_refused"],
    ]);
    expect(opened).toHaveLength(1);
    opened[0]?.respond({ status: 204, headers: [] }, true);
    daemon.feed(FRAME.request, 7, encodeHead(GET), END);
    expect(opened).toHaveLength(2);
    expect(daemon.faults).toEqual([]);
  });

  test("resets a stream that gets data before its head, or a second head", () => {
    for (const second of [false, true]) {
      const { mux, feed, faults } = end();
      const { heard, events } = owner();
      mux.open(GET, true, events);
      if (second) feed(FRAME.response, 1, OK);
      feed(second ? FRAME.response : FRAME.data, 1, second ? OK : new Uint8Array(1));
      expect(heard.failures).toMatchObject([{ code: "invalid_request" }]);
      expect(faults).toEqual([]);
    }
  });

  test("answers a ping, skips frames of a newer peer, and stops a peer that only makes it answer", () => {
    const { mux, sent, feed, faults, socket } = end();
    feed(FRAME.ping, 0, new Uint8Array([1, 2]));
    expect(sent).toMatchObject([{ type: FRAME.pong, payload: new Uint8Array([1, 2]) }]);
    feed(77, 3, new Uint8Array(5));
    expect(faults).toEqual([]);
    socket.queued = 9 * KIB * KIB;
    feed(FRAME.ping, 0, new Uint8Array(1));
    expect(faults).toMatchObject([{ code: 4003, reason: "the peer does not read" }]);
    mux.close();
  });

  test("after goaway takes no new streams, and fails those the peer never took as not executed", () => {
    const { mux, feed } = end();
    const taken = owner();
    const never = owner();
    mux.open(GET, true, taken.events);
    mux.open(GET, true, never.events);
    feed(FRAME.goaway, 0, u32(1));
    expect(never.heard.failures).toEqual([
      { code: "tunnel_lost", lost: true, mayHaveExecuted: false },
    ]);
    expect(taken.heard.failures).toEqual([]);
    expect(() => mux.open(GET, true, owner().events)).toThrow("no new streams");
    feed(FRAME.response, 1, OK, END);
    expect(taken.heard.ends).toBe(1);
  });

  test("fails every stream once when the connection is gone", () => {
    const { mux } = end();
    const { heard, events } = owner();
    const stream = mux.open(GET, false, events);
    mux.close();
    mux.close();
    stream.write(new Uint8Array(9));
    stream.end();
    stream.reset();
    expect(heard.failures).toEqual([{ code: "tunnel_lost", lost: true, mayHaveExecuted: true }]);
    expect(mux.size).toBe(0);
  });

  test("stands 100,000 random messages with nothing worse than a fault", () => {
    let state = 7;
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state >>> 8) % below;
    };
    let current = end();
    for (let round = 0; round < 100_000; round++) {
      if (round % 500 === 0 || current.faults.length > 0) {
        current.mux.close();
        current = end({
          onRequest(stream) {
            stream.listen(owner().events);
            if (random(2)) stream.respond({ status: 200, headers: [] }, random(2) === 0);
          },
        });
        for (let i = 0; i < 4; i++) current.mux.open(GET, random(2) === 0, owner().events);
      }
      const payload = random(3) ? new Uint8Array(random(64)) : random(2) ? OK : encodeHead(GET);
      current.feed(1 + random(9), random(12), payload, random(2));
    }
    expect(current.mux.size).toBeLessThan(20);
  });
});
