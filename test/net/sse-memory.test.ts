import { expect, test } from "bun:test";
import { setImmediate } from "node:timers/promises";
import { sseResponse } from "../../src/net/sse-write.ts";
import type { SseFrame } from "../../src/protocol/sse.ts";

const EVENTS = 500;

test("an event that the reader has is not kept while its stream goes on", async () => {
  const made: WeakRef<SseFrame>[] = [];
  const reader = streamOf(made).getReader();
  for (let n = 0; n < EVENTS; n++) await reader.read();
  for (let turn = 0; turn < 10; turn++) {
    await setImmediate();
    Bun.gc(true);
  }
  const kept = made.filter((frame) => frame.deref() !== undefined).length;
  expect(made.length).toBeGreaterThanOrEqual(EVENTS - 2);
  expect(kept).toBeLessThan(EVENTS / 10);
  await reader.cancel();
});

function streamOf(made: WeakRef<SseFrame>[]): ReadableStream<Uint8Array> {
  async function* events(): AsyncGenerator<SseFrame> {
    for (let n = 1; ; n++) {
      await setImmediate();
      const frame = { id: String(n), event: "n", data: "x".repeat(100) };
      made.push(new WeakRef(frame));
      yield frame;
    }
  }
  const { signal } = new AbortController();
  const { body } = sseResponse({ signal, events: events() });
  if (!body) throw new Error("no body");
  return body;
}
