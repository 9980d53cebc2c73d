import { afterEach, describe, expect, test } from "bun:test";
import { deferred } from "../../src/protocol/deferred.ts";
import { closeAll, code, KEY, setup } from "./model-proxy-setup.ts";
import { MESSAGE, sendJson } from "./model-upstream.ts";

afterEach(closeAll);

describe("what goes out", () => {
  test("carries the real key to the configured place, and the answer comes back", async () => {
    const { upstream, ask, token } = await setup();
    const answer = await ask({ path: "/v1/messages?beta=true", body: '{"model":"m"}' });
    expect(answer.status).toBe(200);
    expect(await answer.text()).toBe(MESSAGE);
    const [seen] = upstream.seen;
    expect(seen).toMatchObject({ url: "/v1/messages?beta=true", body: '{"model":"m"}' });
    expect(seen?.headers["x-api-key"]).toBe(KEY);
    expect(JSON.stringify(seen)).not.toContain(token);
  });

  test("goes to OpenAI with a bearer key, below its base path once", async () => {
    const { upstream, ask } = await setup();
    for (const path of ["/v1/responses", "/v1/chat/completions"])
      await (await ask({ path })).text();
    await (await ask({ method: "GET", path: "/v1/models" })).text();
    expect(upstream.seen.map(({ url }) => url)).toEqual([
      "/v1/responses",
      "/v1/chat/completions",
      "/v1/models",
    ]);
    for (const { headers } of upstream.seen) {
      expect(headers.authorization).toBe(`Bearer ${KEY}`);
      expect(headers["x-api-key"]).toBeUndefined();
    }
  });

  test("asks Anthropic for its models when the client speaks its protocol", async () => {
    const { upstream, ask } = await setup();
    const headers = { "anthropic-version": "2023-06-01" };
    await (await ask({ method: "GET", path: "/v1/models?limit=5", headers })).text();
    expect(upstream.seen[0]?.headers["x-api-key"]).toBe(KEY);
    expect(upstream.seen[0]?.headers["anthropic-version"]).toBe("2023-06-01");
  });

  test("has no credentials, cookies, forwarding hints or hop-by-hop fields from inside", async () => {
    const { upstream, ask } = await setup();
    const headers = {
      authorization: "Bearer stolen",
      cookie: "session=1",
      "proxy-authorization": "Basic eA==",
      forwarded: "for=1.2.3.4",
      "x-forwarded-for": "1.2.3.4",
      "x-forwarded-host": "evil",
      "x-real-ip": "1.2.3.4",
      "x-goog-api-key": "g",
      "openai-organization": "other",
      "x-http-method-override": "DELETE",
      connection: "keep-alive, x-hop",
      "x-hop": "1",
      te: "trailers",
      host: "evil.example",
      "user-agent": "kept",
    };
    await (await ask({ headers })).text();
    const seen = upstream.seen[0]?.headers ?? {};
    for (const name of Object.keys(headers)) {
      if (["connection", "host", "user-agent"].includes(name)) continue;
      expect([name, seen[name]]).toEqual([name, undefined]);
    }
    expect(seen.host).toBe(new URL(upstream.url).host);
    expect(seen["user-agent"]).toBe("kept");
  });
});

describe("what comes back", () => {
  test("has no cookies and no account of the owner", async () => {
    const { ask } = await setup({
      script: (response) => {
        response.setHeader("set-cookie", "a=1");
        response.setHeader("anthropic-organization-id", "org");
        response.setHeader("request-id", "req_1");
        sendJson(response, MESSAGE);
      },
    });
    const { headers } = await ask();
    expect(headers.get("set-cookie")).toBeNull();
    expect(headers.get("anthropic-organization-id")).toBeNull();
    expect(headers.get("request-id")).toBe("req_1");
  });

  test("keeps the service's own errors as they are", async () => {
    const error = '{"type":"error","error":{"type":"overloaded_error","message":"x"}}';
    const { ask, proxy } = await setup({ script: (response) => sendJson(response, error, 529) });
    const answer = await ask();
    expect(answer.status).toBe(529);
    expect(await answer.text()).toBe(error);
    expect(proxy.usage("run_1")).toEqual({ inputTokens: 0, outputTokens: 0, requests: 1 });
  });

  test("streams: an event arrives before the next one is made", async () => {
    const go = deferred();
    const { ask } = await setup({
      script: async (response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write("event: ping\ndata: {}\n\n");
        await go.promise;
        response.end("data: end\n\n");
      },
    });
    const reader = (await ask()).body.getReader();
    const first = await reader.read();
    expect(new TextDecoder().decode(first.value)).toBe("event: ping\ndata: {}\n\n");
    go.resolve();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("data: end\n\n");
    expect((await reader.read()).done).toBe(true);
  });

  test("a redirect is not followed", async () => {
    for (const status of [301, 307, 304]) {
      const { ask, upstream } = await setup({
        script: (response) => {
          response.writeHead(status, { location: "/v1/messages" });
          response.end();
        },
      });
      expect(await code(ask())).toBe("502 model_failed");
      expect(upstream.seen).toHaveLength(1);
    }
  });

  test("a service that is away is model_failed", async () => {
    const { ask, upstream } = await setup();
    await upstream[Symbol.asyncDispose]();
    expect(await code(ask())).toBe("502 model_failed");
  });

  test("a service that dies in mid-stream breaks the answer off", async () => {
    const die = deferred();
    const { ask } = await setup({
      script: async (response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write("data: 1\n\n");
        await die.promise;
        response.destroy();
      },
    });
    const reader = (await ask()).body.getReader();
    await reader.read();
    die.resolve();
    expect(reader.read()).rejects.toThrow();
  });

  test("a client that goes away takes the request at the service along", async () => {
    const gone = deferred();
    const { ask } = await setup({
      script: (response) => {
        response.once("close", () => gone.resolve());
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write("data: 1\n\n");
      },
    });
    const answer = await ask();
    await answer.body.cancel();
    await gone.promise;
  });

  test("a client that goes away before the answer takes it along, too", async () => {
    const gone = deferred();
    const { ask, upstream } = await setup({
      script: (response) => void response.once("close", () => gone.resolve()),
    });
    const abort = new AbortController();
    const asked = ask({ signal: abort.signal });
    await upstream.asked(1);
    abort.abort(new Error("away"));
    expect(asked).rejects.toThrow("away");
    await gone.promise;
  });

  test("a client that stops reading holds the service back", async () => {
    const sent = { bytes: 0 };
    const done = deferred();
    const { ask } = await setup({
      script: (response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        const chunk = Buffer.alloc(64 * 1024, 97);
        const write = (): void => {
          while (sent.bytes < 256 * 1024 * 1024) {
            sent.bytes += chunk.length;
            if (response.write(chunk)) continue;
            response.once("drain", write);
            return;
          }
        };
        write();
        response.once("close", () => done.resolve());
      },
    });
    const answer = await ask();
    let before = -1;
    while (sent.bytes === 0 || before !== sent.bytes) {
      before = sent.bytes;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(sent.bytes).toBeLessThan(32 * 1024 * 1024);
    await answer.body.cancel();
    await done.promise;
  });
});
