import assert from "node:assert/strict";
import { httpRequest } from "../../../src/net/http-request.ts";
import { listen } from "../../../src/net/listen.ts";
import { readSse } from "../../../src/net/sse-read.ts";
import { sseResponse } from "../../../src/net/sse-write.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import type { Behaviours } from "./run.ts";
import { type Counter, chunks, countBytes, MIB, rejects, stalls, until } from "./support.ts";
import { app, GET } from "./tunnel-app.ts";
import { never, tunnelPair } from "./tunnel-pair.ts";

export const tunnelBehaviours: Behaviours = {
  "a request crosses with method, query, headers and body; repeated headers stay, hop-by-hop go":
    async () => {
      await using pair = await tunnelPair(app());
      const answer = await pair.hub.request({
        method: "PUT",
        path: "/echo?x=%20&y",
        headers: { "x-a": "b", connection: "x-gone", "x-gone": "1" },
        body: new TextEncoder().encode("grüße"),
        signal: never,
      });
      assert.equal(answer.status, 418);
      assert.equal(answer.headers.get("x-saw"), "b");
      assert.equal(answer.headers.get("transfer-encoding"), null);
      assert.deepEqual(answer.headers.getSetCookie(), ["a=1", "b=2"]);
      const text = await new Response(answer.body).text();
      assert.equal(text, "PUT /echo?x=%20&y grüße");
      assert.equal(pair.hub.streams, 0);
      assert.equal(pair.daemon.streams, 0);
    },

  "256 MiB go up and 256 MiB come down with flat memory": async () => {
    await using pair = await tunnelPair(app());
    const before = process.memoryUsage().rss;
    const up = await pair.hub.request({
      ...GET,
      method: "POST",
      path: "/sink",
      body: chunks(256 * MIB),
    });
    assert.equal(await new Response(up.body).text(), String(256 * MIB));
    const down = await pair.hub.request({ ...GET, path: `/blob?n=${256 * MIB}` });
    assert.equal(await countBytes(down.body), 256 * MIB);
    // A body that is kept whole would be 256; collectors are free to be late with the rest.
    const grown = (process.memoryUsage().rss - before) / MIB;
    assert.ok(grown < 190, `memory grew by ${grown.toFixed()} MiB`);
  },

  "200 requests at once are all answered": async () => {
    await using pair = await tunnelPair(app());
    const texts = await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const body = new TextEncoder().encode(`n${i}`);
        const answer = await pair.hub.request({ ...GET, method: "POST", path: "/echo", body });
        return new Response(answer.body).text();
      }),
    );
    for (const [i, text] of texts.entries()) assert.equal(text, `POST /echo n${i}`);
  },

  "a reader that stops holds its own stream, not the others and not memory": async () => {
    const sent: Counter = { bytes: 0 };
    await using pair = await tunnelPair(app({ sent }));
    const stopped = await pair.hub.request({ ...GET, path: `/blob?n=${512 * MIB}` });
    const reader = stopped.body.getReader();
    await reader.read();
    await stalls(sent);
    assert.ok(sent.bytes < 4 * MIB, `${sent.bytes} bytes were taken`);
    const other = await pair.hub.request({ ...GET, path: `/echo` });
    assert.equal(other.status, 418);
    await other.body.cancel();
    await reader.cancel();
    await until(() => sent.cancelled === true, "the source is cancelled");
    await until(() => pair.daemon.streams === 0, "the stream is gone");
  },

  "a receiver of an upload that stops holds its sender": async () => {
    const sent: Counter = { bytes: 0 };
    await using pair = await tunnelPair(app());
    const abort = new AbortController();
    const work = pair.hub.request({
      ...GET,
      method: "POST",
      path: "/hang",
      body: chunks(512 * MIB, sent),
      signal: abort.signal,
    });
    const settled = rejects(work);
    await stalls(sent);
    assert.ok(sent.bytes < 4 * MIB, `${sent.bytes} bytes were taken`);
    abort.abort(new DecoError("timeout", "enough"));
    assert.equal((await settled).code, "timeout");
    await until(() => sent.cancelled === true, "the source is cancelled");
  },

  "an HTTP client of the hub that stops reading holds the laptop's source": async () => {
    const sent: Counter = { bytes: 0 };
    await using pair = await tunnelPair(app({ sent }));
    await using hub = await listen(
      {
        fetch: async (request) => {
          const { pathname, search } = new URL(request.url);
          const path = pathname + search;
          const { signal, headers } = request;
          const answer = await pair.hub.request({ method: "GET", path, headers, signal });
          return new Response(answer.body, { status: answer.status, headers: answer.headers });
        },
      },
      { port: 0 },
    );
    const answer = await httpRequest({ url: `${hub.url}/blob?n=${512 * MIB}`, signal: never });
    const reader = answer.body.getReader();
    await reader.read();
    await stalls(sent);
    assert.ok(sent.bytes < 32 * MIB, `${sent.bytes} bytes were taken`);
    await reader.cancel();
    await until(() => sent.cancelled === true, "the source is cancelled");
    await until(() => pair.daemon.streams === 0, "no stream is left");
  },

  "a small request beside a bulk download is quick": async () => {
    await using pair = await tunnelPair(app());
    const bulk = await pair.hub.request({ ...GET, path: `/blob?n=${2048 * MIB}` });
    const reader = bulk.body.getReader();
    const enough = new AbortController();
    const drain = (async () => {
      while (!enough.signal.aborted && !(await reader.read()).done);
      await reader.cancel();
    })();
    const times: number[] = [];
    for (let i = 0; i < 40; i++) {
      const start = performance.now();
      const answer = await pair.hub.request(GET);
      await new Response(answer.body).text();
      times.push(performance.now() - start);
    }
    enough.abort();
    await drain;
    times.sort((a, b) => a - b);
    assert.ok((times[20] ?? 0) < 100, `the median took ${times[20]} ms`);
  },

  "events cross one by one as they happen": async () => {
    const wants: (() => void)[] = [];
    await using pair = await tunnelPair((request) =>
      sseResponse({
        signal: request.signal,
        events: (async function* () {
          for (let i = 0; i < 3; i++) {
            yield { data: String(i) };
            await new Promise<void>((resolve) => wants.push(resolve));
          }
        })(),
      }),
    );
    const answer = await pair.hub.request(GET);
    const seen: string[] = [];
    for await (const frame of readSse(answer)) {
      seen.push(frame.data);
      // The next one is made only after this one came through.
      await until(() => wants.length > 0, "the source waits");
      wants.pop()?.();
    }
    assert.deepEqual(seen, ["0", "1", "2"]);
  },
};
