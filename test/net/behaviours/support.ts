import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTcp, type Server, type Socket } from "node:net";
import { DecoError } from "../../../src/protocol/errors.ts";

export const MIB = 1024 * 1024;

const BLOCK = new Uint8Array(64 * 1024).fill(97);

/** `total` bytes on demand; counts what was taken, notes a cancel. */
export function chunks(total: number, counter: Counter = { bytes: 0 }): ReadableStream<Uint8Array> {
  let left = total;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        // A turn of the loop per block: a source that never waits would starve the test's timers.
        if ((left / BLOCK.length) % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
        const block = BLOCK.subarray(0, Math.min(left, BLOCK.length));
        left -= block.length;
        counter.bytes += block.length;
        controller.enqueue(block.slice());
        if (left === 0) controller.close();
      },
      cancel() {
        counter.cancelled = true;
      },
    },
    { highWaterMark: 0 },
  );
}

export async function countBytes(body: ReadableStream<Uint8Array> | null): Promise<number> {
  let count = 0;
  const reader = body?.getReader();
  for (;;) {
    const part = await reader?.read();
    if (!part || part.done) return count;
    count += part.value.byteLength;
  }
}

/** Waits for a state that no event announces; fails after 5 s. */
export async function until(state: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 5000;
  while (!state()) {
    if (performance.now() > end) throw new Error(`did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export interface Counter {
  bytes: number;
  cancelled?: boolean;
}

/** Waits until a counter that moved stands still for 300 ms. */
export async function stalls(counter: { readonly bytes: number }): Promise<void> {
  await until(() => counter.bytes > 0, "something is sent");
  for (;;) {
    const before = counter.bytes;
    await new Promise((resolve) => setTimeout(resolve, 300));
    if (counter.bytes === before) return;
    if (counter.bytes > 200 * MIB) return;
  }
}

export async function rawHttp(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
) {
  const server = createHttp(answer);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${portOf(server)}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

export async function rawTcp(onSocket: (socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server = createTcp((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    onSocket(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${portOf(server)}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((done) => server.close(done));
    },
  };
}

export async function rejects(work: Promise<unknown>): Promise<DecoError> {
  const error: unknown = await work.then(
    () => assert.fail("it did not reject"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof DecoError, String(error));
  return error;
}

export function portOf(server: Server): number {
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return address.port;
}
