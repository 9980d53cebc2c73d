import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import { httpUpgrade } from "../../../src/net/http-upgrade.ts";
import { listen } from "../../../src/net/listen.ts";
import { answerUpgrade, splice } from "../../../src/net/raw-answer.ts";
import type { TunnelHandler } from "../../../src/net/tunnel-serve.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import type { Behaviours } from "./run.ts";
import { MIB, rejects, until } from "./support.ts";
import { never, type Pair, tunnelPair } from "./tunnel-pair.ts";

/** A WebSocket echo server, as it may run inside a sandbox. */
async function echoServer() {
  const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  const server = await listen(
    { fetch: () => new Response("no upgrade", { status: 426 }) },
    {
      port: 0,
      onUpgrade(request, socket, head) {
        if (request.url === "/refused") {
          socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nx-why: rules\r\n\r\nno");
          return;
        }
        sockets.handleUpgrade(request, socket, head, (ws) => {
          ws.on("message", (data, binary) => ws.send(data, { binary }));
        });
      },
    },
  );
  return server;
}

/** The laptop's side: passes upgrades on to a server of its own. */
function toServer(url: string): TunnelHandler {
  return async (request, { upgrade }) => {
    assert.ok(upgrade, "the peer asked for an upgrade");
    const { pathname, search } = new URL(request.url);
    const { headers, signal } = request;
    const answer = await httpUpgrade({ url, path: pathname + search, headers, signal });
    if (!answer.socket)
      return new Response(answer.body, { status: answer.status, headers: answer.headers });
    void splice(upgrade({ headers: answer.headers }), answer.socket);
    return new Response(null);
  };
}

/** The hub's side: a public server whose upgrades go through the tunnel. */
function publicServer(pair: Pair) {
  return listen(
    { fetch: () => new Response("hub") },
    {
      port: 0,
      onUpgrade(request, socket, head) {
        const headers = new Headers();
        for (const [name, value] of Object.entries(request.headers))
          if (typeof value === "string") headers.set(name, value);
        const path = request.url ?? "/";
        pair.hub
          .upgrade({ method: "GET", path, headers, signal: never })
          .then((answer) => answerUpgrade(socket, answer, head, never))
          .catch(() => socket.destroy());
      },
    },
  );
}

export const upgradeBehaviours: Behaviours = {
  "a WebSocket crosses hub, tunnel and daemon with messages of any size and its close code":
    async () => {
      await using server = await echoServer();
      await using pair = await tunnelPair(toServer(server.url));
      await using hub = await publicServer(pair);
      const ws = new WebSocket(`${hub.url.replace("http", "ws")}/chat?x=1`, ["a"]);
      await once(ws, "open");
      for (const size of [0, 5, 70_000, 3 * MIB]) {
        ws.send(Buffer.alloc(size, 7));
        const [data]: unknown[] = await once(ws, "message");
        assert.ok(data instanceof Uint8Array);
        assert.equal(data.length, size);
        assert.ok(data.every((byte) => byte === 7));
      }
      ws.close(4321, "bye");
      const [code]: unknown[] = await once(ws, "close");
      assert.equal(code, 4321);
      await until(() => pair.hub.streams === 0 && pair.daemon.streams === 0, "no stream is left");
    },

  "a refused upgrade arrives with status, headers and body": async () => {
    await using server = await echoServer();
    await using pair = await tunnelPair(toServer(server.url));
    await using hub = await publicServer(pair);
    const socket = connect(Number(new URL(hub.url).port), "127.0.0.1");
    socket.write("GET /refused HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: x\r\n\r\n");
    let text = "";
    for await (const chunk of socket) text += String(chunk);
    assert.match(text, /^HTTP\/1.1 403 Forbidden\r\n/);
    assert.match(text, /\r\nx-why: rules\r\n/);
    assert.match(text, /\r\n\r\nno$/);
    await until(() => pair.daemon.streams === 0, "no stream is left");
  },

  "raw bytes half-close, keep order, and hold a writer whose reader stopped": async () => {
    let taken = 0;
    let resume: (() => void) | undefined;
    await using pair = await tunnelPair(async (_request, { upgrade }) => {
      assert.ok(upgrade);
      const socket = upgrade({ headers: { upgrade: "x" } });
      const gate = new Promise<void>((resolve) => {
        resume = resolve;
      });
      void (async () => {
        await gate;
        socket.on("data", (chunk: Buffer) => {
          taken += chunk.length;
        });
        socket.once("end", () => socket.end("all read"));
      })();
      return new Response(null);
    });
    const { status, headers, socket } = await pair.hub.upgrade({
      method: "GET",
      path: "/",
      headers: { upgrade: "x" },
      signal: never,
    });
    assert.equal(status, 101);
    assert.equal(headers.get("upgrade"), "x");
    assert.ok(socket);
    let written = 0;
    const block = Buffer.alloc(64 * 1024);
    while (socket.write(block)) written += block.length;
    for (let i = 0; i < 128; i++) socket.write(block);
    socket.end();
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.equal(taken, 0);
    assert.ok(socket.writableLength > 4 * MIB, "the writer is held");
    resume?.();
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    await once(socket, "close");
    assert.equal(text, "all read");
    assert.ok(taken >= written + 129 * block.length - 64 * 1024);
    await until(() => pair.hub.streams === 0 && pair.daemon.streams === 0, "no stream is left");
  },

  "an abort, or a cut wire, closes upgraded streams at both ends": async () => {
    let far: { destroyed: boolean } | undefined;
    await using pair = await tunnelPair(async (_request, { upgrade }) => {
      far = upgrade?.({ headers: {} });
      return new Response(null);
    });
    const abort = new AbortController();
    const open = (signal: AbortSignal) =>
      pair.hub.upgrade({ method: "GET", path: "/", headers: { upgrade: "x" }, signal });
    const first = await open(abort.signal);
    abort.abort(new DecoError("timeout", "enough"));
    await until(() => first.socket?.destroyed === true, "our end closes");
    await until(() => far?.destroyed === true, "the far end closes");
    const second = await open(never);
    pair.wire.cut();
    await until(() => second.socket?.destroyed === true, "our end closes");
    await until(() => far?.destroyed === true, "the far end closes");
  },

  "an upgrade to nobody is the code that the caller named": async () => {
    const options = { url: "http://127.0.0.1:1", headers: { upgrade: "x" }, signal: never };
    const error = await rejects(httpUpgrade({ ...options, unreachable: "port_unreachable" }));
    assert.equal(error.code, "port_unreachable");
  },

  "an upgrade that is never answered is a time-out": async () => {
    await using server = await listen({ fetch: () => new Response() }, { port: 0, onUpgrade() {} });
    const options = { url: server.url, headers: { upgrade: "x" }, signal: never };
    assert.equal((await rejects(httpUpgrade({ ...options, timeoutMs: 50 }))).code, "timeout");
  },
};
