import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { listen } from "../../../src/net/listen.ts";
import { upgradeToTunnel } from "../../../src/net/tunnel-accept.ts";
import { dialTunnel } from "../../../src/net/tunnel-dial.ts";
import { deferred } from "../../../src/protocol/deferred.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import { END, encodeFrames, encodeHead, FRAME, frameBytes } from "../../../src/protocol/frames.ts";
import type { Behaviours } from "./run.ts";
import { rawTcp, rejects } from "./support.ts";
import { app } from "./tunnel-app.ts";
import { never } from "./tunnel-pair.ts";

/** A hub whose 101 and first request travel in one packet. */
function eagerHub() {
  return rawTcp((socket) => {
    socket.once("data", (request: Buffer) => {
      const key = /sec-websocket-key: (.*)\r\n/i.exec(request.toString())?.[1] ?? "";
      const accept = createHash("sha1")
        .update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
        .digest("base64");
      const payload = encodeHead({ method: "GET", path: "/first", headers: [] });
      const frame = { type: FRAME.request, flags: END, stream: 1, payload };
      const message = encodeFrames([frame], frameBytes(frame));
      const head =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n" +
        `sec-websocket-accept: ${accept}\r\n\r\n`;
      socket.write(
        Buffer.concat([Buffer.from(head), Buffer.from([0x82, message.length]), message]),
      );
    });
  });
}

export const firstBehaviours: Behaviours = {
  "a dialler that left before it was let in is an error, not a wait for ever": async () => {
    const outcome = deferred<unknown>();
    await using server = await listen(
      { fetch: () => new Response() },
      {
        port: 0,
        onUpgrade(request, socket, head) {
          socket.once("close", () => {
            const work = upgradeToTunnel(request, socket, head);
            work.then(outcome.resolve, outcome.resolve);
          });
          socket.destroy();
        },
      },
    );
    const dial = dialTunnel({ url: server.url, headers: {}, handler: app(), signal: never });
    assert.equal((await rejects(dial)).code, "hub_unreachable");
    assert.ok((await outcome.promise) instanceof DecoError);
  },

  "a request that comes in one packet with the hub's 101 is not lost": async () => {
    await using hub = await eagerHub();
    const path = deferred<string>();
    const tunnel = await dialTunnel({
      url: hub.url,
      headers: {},
      signal: never,
      handler(request) {
        path.resolve(new URL(request.url).pathname);
        return new Response("ok");
      },
    });
    const lost = setTimeout(() => path.reject(new Error("the request was lost")), 2000);
    assert.equal(await path.promise, "/first");
    clearTimeout(lost);
    await tunnel[Symbol.asyncDispose]();
  },
};
