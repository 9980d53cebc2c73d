import assert from "node:assert/strict";
import { once } from "node:events";
import { httpRequest } from "../../../src/net/http-request.ts";
import { listen } from "../../../src/net/listen.ts";
import { readSse } from "../../../src/net/sse-read.ts";
import { sseResponse } from "../../../src/net/sse-write.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import type { Behaviours } from "./run.ts";
import { rejects, stalls, until } from "./support.ts";

const never = new AbortController().signal;

export const sseBehaviours: Behaviours = {
  "an event stream sends its head at once, pings, and hands events over as they come": async () => {
    const gate = new AbortController();
    const served: string[] = [];
    await using server = await listen(
      {
        fetch: (request) =>
          sseResponse({
            signal: request.signal,
            pingMs: 20,
            events: (async function* () {
              try {
                await once(gate.signal, "abort").catch(() => undefined);
                yield { id: "1", event: "a", data: "grüße\nzwei" };
                yield { data: "2" };
              } finally {
                served.push("done");
              }
            })(),
          }),
      },
      { port: 0 },
    );
    const answer = await httpRequest({ url: server.url, signal: never, headersTimeoutMs: 2000 });
    assert.equal(answer.headers.get("content-type"), "text/event-stream; charset=utf-8");
    const [mine, copy] = answer.body.tee();
    let raw = "";
    const reader = copy.getReader();
    while (!raw.includes(": ping")) {
      const { value } = await reader.read();
      raw += new TextDecoder().decode(value);
    }
    gate.abort();
    reader.cancel().catch(() => undefined); // ends with the other half of the tee
    const frames = [];
    for await (const frame of readSse({ ...answer, body: mine })) frames.push(frame);
    assert.deepEqual(frames, [{ id: "1", event: "a", data: "grüße\nzwei" }, { data: "2" }]);
    assert.deepEqual(served, ["done"]);
  },

  "a reader that leaves ends the source of its events": async () => {
    let left = false;
    await using server = await listen(
      {
        fetch: (request) =>
          sseResponse({
            signal: request.signal,
            events: (async function* () {
              try {
                for (let i = 0; ; i++) {
                  yield { data: String(i) };
                  await new Promise((resolve) => setTimeout(resolve, 1));
                }
              } finally {
                left = true;
              }
            })(),
          }),
      },
      { port: 0 },
    );
    const answer = await httpRequest({ url: server.url, signal: never });
    for await (const frame of readSse(answer)) if (frame.data === "3") break;
    await until(() => left, "the source ends");
  },

  "a reader of events that stops holds the source, not memory": async () => {
    let made = 0;
    const data = "x".repeat(10_000);
    await using server = await listen(
      {
        fetch: (request) =>
          sseResponse({
            signal: request.signal,
            events: (async function* () {
              for (;;) {
                made++;
                yield { data };
              }
            })(),
          }),
      },
      { port: 0 },
    );
    const answer = await httpRequest({ url: server.url, signal: never });
    const reader = answer.body.getReader();
    await reader.read();
    await stalls({
      get bytes() {
        return made;
      },
    });
    assert.ok(made < 3000, `${made} events were made`);
    await reader.cancel();
  },

  "a source of events that throws breaks the connection instead of ending it": async () => {
    await using server = await listen(
      {
        fetch: (request) =>
          sseResponse({
            signal: request.signal,
            events: (async function* () {
              yield { data: "1" };
              await new Promise((resolve) => setTimeout(resolve, 20));
              throw new Error("disk");
            })(),
          }),
      },
      { port: 0 },
    );
    const frames = [];
    const read = async () => {
      const answer = await httpRequest({ url: server.url, signal: never });
      for await (const frame of readSse(answer)) frames.push(frame);
    };
    assert.equal((await rejects(read())).code, "unavailable");
    assert.equal(frames.length, 1);
  },

  "an answer that is no event stream is an error with the peer's code": async () => {
    const answers: Record<string, Response> = {
      "/problem": Response.json(new DecoError("run_not_found", "no run r").toProblem(), {
        status: 404,
        headers: { "content-type": "application/problem+json" },
      }),
      "/proxy": new Response("<html>Bad Gateway</html>", { status: 502 }),
      "/html": new Response("<html>", { headers: { "content-type": "text/html" } }),
    };
    await using server = await listen(
      { fetch: (request) => answers[new URL(request.url).pathname] ?? new Response() },
      { port: 0 },
    );
    const read = async (path: string) => {
      const answer = await httpRequest({ url: server.url + path, signal: never });
      for await (const frame of readSse(answer, { fallback: "harness_failed" }))
        assert.fail(frame.data);
    };
    assert.equal((await rejects(read("/problem"))).code, "run_not_found");
    const proxy = await rejects(read("/proxy"));
    assert.equal(proxy.code, "harness_failed");
    assert.match(proxy.message, /502.*Bad Gateway/);
    assert.equal((await rejects(read("/html"))).code, "harness_failed");
  },
};
