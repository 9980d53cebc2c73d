import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { httpRequest } from "../../../src/net/http-request.ts";
import { listen } from "../../../src/net/listen.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import type { Behaviours } from "./run.ts";
import {
  type Counter,
  chunks,
  countBytes,
  MIB,
  rawHttp,
  rawTcp,
  rejects,
  stalls,
  until,
} from "./support.ts";

const never = new AbortController().signal;

export const httpBehaviours: Behaviours = {
  "a request reaches the app with method, query, headers and body, and the answer comes back":
    async () => {
      await using server = await listen(
        {
          fetch: async (request) => {
            const headers = new Headers({ "x-echo": request.headers.get("x-a") ?? "" });
            headers.append("set-cookie", "a=1");
            headers.append("set-cookie", "b=2");
            const url = new URL(request.url);
            const line = `${request.method} ${url.pathname}${url.search} ${await request.text()}`;
            return new Response(line, { status: 418, headers });
          },
        },
        { port: 0 },
      );
      const answer = await httpRequest({
        url: `${server.url}/p/q?x=1&y=%20`,
        method: "PUT",
        headers: { "x-a": "b" },
        body: "grüße",
        signal: never,
      });
      assert.equal(answer.status, 418);
      assert.equal(answer.headers.get("x-echo"), "b");
      assert.deepEqual(answer.headers.getSetCookie(), ["a=1", "b=2"]);
      assert.equal(await answer.text(), "PUT /p/q?x=1&y=%20 grüße");
    },

  "a unix socket is served with mode 0600, a stale one is replaced, a live one is not":
    async () => {
      const dir = await mkdtemp(join(tmpdir(), "deco-net-"));
      const socketPath = join(dir, "s.sock");
      try {
        const app = { fetch: (request: Request) => new Response(new URL(request.url).pathname) };
        {
          await using first = await listen(app, { socketPath });
          assert.equal((await stat(socketPath)).mode & 0o777, 0o600);
          assert.equal(first.url, `unix:${socketPath}`);
          const answer = await httpRequest({ socketPath, path: "/hi?x", signal: never });
          assert.equal(await answer.text(), "/hi");
          assert.equal((await rejects(listen(app, { socketPath }))).code, "port_in_use");
        }
        await using second = await listen(app, { socketPath });
        assert.equal(second.port, 0);
      } finally {
        await rm(dir, { recursive: true, force: true });
      }
    },

  "a taken port is port_in_use": async () => {
    const app = { fetch: () => new Response("") };
    await using first = await listen(app, { port: 0 });
    assert.equal((await rejects(listen(app, { port: first.port }))).code, "port_in_use");
  },

  "64 MiB go up and 64 MiB come down": async () => {
    await using server = await listen(
      {
        fetch: async (request) => {
          if (request.method === "GET") return new Response(chunks(64 * MIB));
          return new Response(String(await countBytes(request.body)));
        },
      },
      { port: 0 },
    );
    const up = await httpRequest({
      url: server.url,
      method: "POST",
      body: chunks(64 * MIB),
      signal: never,
    });
    assert.equal(await up.text(), String(64 * MIB));
    const down = await httpRequest({ url: server.url, signal: never });
    assert.equal(await countBytes(down.body), 64 * MIB);
  },

  "a receiver that stops reading stops the sender of an upload": async () => {
    await using server = await rawHttp((request) => request.pause());
    const abort = new AbortController();
    const sent: Counter = { bytes: 0 };
    const work = httpRequest({
      url: server.url,
      method: "POST",
      body: chunks(256 * MIB, sent),
      signal: abort.signal,
    });
    const settled = rejects(work);
    await stalls(sent);
    assert.ok(sent.bytes < 32 * MIB, `${sent.bytes} bytes were taken`);
    abort.abort(new DecoError("timeout", "enough"));
    assert.equal((await settled).code, "timeout");
    await until(() => sent.cancelled === true, "the upload's source is cancelled");
  },

  "a reader that stops stops the sender of an answer": async () => {
    const sent: Counter = { bytes: 0 };
    await using server = await listen(
      { fetch: () => new Response(chunks(256 * MIB, sent)) },
      { port: 0 },
    );
    const answer = await httpRequest({ url: server.url, signal: never });
    const reader = answer.body.getReader();
    await reader.read();
    await stalls(sent);
    assert.ok(sent.bytes < 32 * MIB, `${sent.bytes} bytes were taken`);
    await reader.cancel();
    await until(() => sent.cancelled === true, "the answer's source is cancelled");
  },

  "an abort in mid-body ends the answer with the signal's reason and closes the connection":
    async () => {
      let closed = false;
      await using server = await rawHttp((request, response) => {
        response.on("close", () => {
          closed = true;
        });
        response.write("first");
        request.resume();
      });
      const abort = new AbortController();
      const answer = await httpRequest({ url: server.url, signal: abort.signal });
      const reader = answer.body.getReader();
      await reader.read();
      const next = reader.read();
      abort.abort(new DecoError("timeout", "enough"));
      assert.equal((await rejects(next)).code, "timeout");
      await until(() => closed, "the server sees the connection close");
    },

  "an abort before the answer rejects with the signal's reason": async () => {
    await using server = await rawHttp((request) => request.resume());
    const abort = new AbortController();
    const work = httpRequest({ url: server.url, signal: abort.signal });
    abort.abort(new DecoError("draining", "leaving"));
    assert.equal((await rejects(work)).code, "draining");
  },

  "an answer whose head does not come in time is a time-out": async () => {
    await using server = await rawTcp((socket) => socket.resume());
    const work = httpRequest({ url: server.url, signal: never, headersTimeoutMs: 60 });
    assert.equal((await rejects(work)).code, "timeout");
  },

  "nobody listening is the code that the caller named": async () => {
    let url: string;
    {
      await using server = await rawTcp(() => undefined);
      url = server.url;
    }
    const work = httpRequest({ url, signal: never, unreachable: "harness_unreachable" });
    assert.equal((await rejects(work)).code, "harness_unreachable");
  },

  "a peer that dies before the head is an error": async () => {
    await using server = await rawTcp((socket) => socket.once("data", () => socket.destroy()));
    assert.equal(
      (await rejects(httpRequest({ url: server.url, signal: never }))).code,
      "unavailable",
    );
  },

  "a peer that dies in mid-body is an error, not a short answer": async () => {
    for (const head of [
      "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
      "content-length: 10\r\n\r\nhello",
    ]) {
      await using server = await rawTcp((socket) =>
        socket.once("data", () => {
          socket.write(`HTTP/1.1 200 OK\r\n${head}`);
          setTimeout(() => socket.destroy(), 20);
        }),
      );
      const answer = await httpRequest({ url: server.url, signal: never });
      assert.equal((await rejects(answer.text())).code, "unavailable");
    }
  },

  "an early answer to a half-sent upload arrives": async () => {
    await using server = await rawHttp((_request, response) => {
      response.writeHead(413, { "content-type": "application/problem+json" });
      response.end(JSON.stringify({ code: "body_too_large", detail: "no" }));
    });
    const sent: Counter = { bytes: 0 };
    const answer = await httpRequest({
      url: server.url,
      method: "POST",
      body: chunks(8 * MIB, sent),
      signal: never,
    });
    assert.equal(answer.status, 413);
    assert.deepEqual(await answer.json(), { code: "body_too_large", detail: "no" });
  },

  "a failing upload source ends the request with its error": async () => {
    await using server = await rawHttp((request) => request.resume());
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.error(new DecoError("storage_failed", "disk")),
    });
    const work = httpRequest({ url: server.url, method: "POST", body, signal: never });
    assert.equal((await rejects(work)).code, "storage_failed");
  },

  "a body over the limit is body_too_large": async () => {
    await using server = await listen({ fetch: () => new Response("x".repeat(100)) }, { port: 0 });
    const answer = await httpRequest({ url: server.url, signal: never });
    assert.equal((await rejects(answer.bytes(99))).code, "body_too_large");
  },

  "an upgrade without a taker is refused, and closing does not wait for open streams": async () => {
    const open = await listen(
      {
        fetch: () =>
          new Response(new ReadableStream({ start: (c) => c.enqueue(new Uint8Array(1)) })),
      },
      { port: 0 },
    );
    const answer = await httpRequest({ url: open.url, signal: never });
    const body = answer.bytes();
    await open[Symbol.asyncDispose]();
    assert.equal((await rejects(body)).code, "unavailable");
    assert.equal(
      (await rejects(httpRequest({ url: open.url, signal: never }))).code,
      "unavailable",
    );
  },

  "what is no request is answered with a problem document, too": async () => {
    await using server = await listen({ fetch: () => new Response("seen") }, { port: 0 });
    const host = "Host: localhost";
    const nonsense: readonly (readonly [lines: string, code: string])[] = [
      ["BLAH", "invalid_request"],
      [`GET / HTTP/1.1\r\n${host}\r\nX: ${"y".repeat(99_999)}`, "invalid_request"],
      [`OPTIONS * HTTP/1.1\r\n${host}`, "invalid_request"],
      [`GET /a\\b HTTP/1.1\r\n${host}`, "invalid_request"],
      [`GET http://localhost/ HTTP/1.1\r\n${host}`, "invalid_request"],
      ["GET / HTTP/1.0", "misdirected_request"],
      ["GET / HTTP/1.1", "misdirected_request"],
      ["GET / HTTP/1.1\r\nHost: localhost:99999999", "misdirected_request"],
      ["GET / HTTP/1.1\r\nHost: user@localhost", "misdirected_request"],
    ];
    for (const [lines, code] of nonsense) {
      const answer = await exchange(server.port, `${lines}\r\nConnection: close\r\n\r\n`);
      const [head = "", body = ""] = answer.split("\r\n\r\n");
      assert.match(head.toLowerCase(), /application\/problem\+json/, lines.slice(0, 40));
      const { code: told, info, fix } = DecoError.fromProblem(JSON.parse(body));
      assert.equal(told, code, lines.slice(0, 40));
      assert.ok(head.startsWith(`HTTP/1.1 ${info.status} `) && fix !== "");
    }
  },
};

/** Everything that a server answers to these bytes. */
async function exchange(port: number, text: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  socket.write(text);
  const parts: Buffer[] = [];
  socket.on("data", (part: Buffer) => parts.push(part));
  await once(socket, "close");
  return Buffer.concat(parts).toString();
}
