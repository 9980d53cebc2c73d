import { afterEach, describe, expect, test } from "bun:test";
import { rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { httpRequest } from "../../src/net/http-request.ts";
import { deferred } from "../../src/protocol/deferred.ts";
import { asker, closeAll, code, setup, uid } from "./model-proxy-setup.ts";
import { MESSAGE, sendJson } from "./model-upstream.ts";

afterEach(closeAll);

describe("limits", () => {
  test("a body over the limit is refused before it goes out when its length is told", async () => {
    const { ask, upstream } = await setup({ options: { limits: { maxBodyBytes: 1000 } } });
    expect(await code(ask({ body: "x".repeat(1001) }))).toBe("413 body_too_large");
    expect(upstream.seen).toHaveLength(0);
    expect((await ask({ body: "x".repeat(1000) })).status).toBe(200);
  });

  test("a body over the limit without a length never arrives whole", async () => {
    const { ask, upstream } = await setup({ options: { limits: { maxBodyBytes: 1000 } } });
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let i = 0; i < 3; i++) controller.enqueue(new Uint8Array(400));
        controller.close();
      },
    });
    expect(await code(ask({ body }))).toBe("413 body_too_large");
    expect(upstream.seen).toHaveLength(0);
  });

  test("requests at a time", async () => {
    const go = deferred();
    const { ask, upstream } = await setup({
      options: { limits: { maxConcurrent: 2 } },
      script: async (response) => {
        await go.promise;
        sendJson(response, MESSAGE);
      },
    });
    const both = [ask(), ask()];
    await upstream.asked(2);
    const third = await ask();
    expect(third.status).toBe(429);
    expect(third.headers.get("retry-after")).toBe("1");
    go.resolve();
    for (const asked of both) await (await asked).text();
    expect((await ask()).status).toBe(200);
  });

  test("requests per run, and not those of another run", async () => {
    const { ask, proxy, socketPath } = await setup({ options: { limits: { maxRequests: 2 } } });
    for (let i = 0; i < 2; i++) await (await ask()).text();
    expect(await code(ask())).toBe("429 model_budget");
    const other = asker(socketPath, proxy.grant("run_2").token);
    expect((await other()).status).toBe(200);
  });

  test("tokens per run; the refusal tells clients not to retry and says why", async () => {
    const { ask } = await setup({ options: { limits: { maxTokens: 20 } } });
    await (await ask()).text();
    const answer = await ask();
    expect(answer.status).toBe(429);
    expect(answer.headers.get("x-should-retry")).toBe("false");
    expect(await answer.json()).toMatchObject({
      code: "model_budget",
      error: { type: "rate_limit_error", message: expect.stringContaining("20 tokens") },
    });
  });

  test("tokens of an answer that still comes count for the requests beside it", async () => {
    const go = deferred();
    const { ask, proxy } = await setup({
      options: { limits: { maxTokens: 100 } },
      script: async (response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        const usage = { input_tokens: 100, output_tokens: 1 };
        response.write(
          `data: ${JSON.stringify({ type: "message_start", message: { usage } })}\n\n`,
        );
        await go.promise;
        response.end();
      },
    });
    const reader = (await ask()).body.getReader();
    await reader.read();
    expect(await code(ask())).toBe("429 model_budget");
    go.resolve();
    expect((await reader.read()).done).toBe(true);
    expect(proxy.usage("run_1")).toEqual({ inputTokens: 100, outputTokens: 1, requests: 1 });
  });

  test("an answer that its client broke off is counted", async () => {
    const { ask, proxy } = await setup({
      script: (response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write('data: {"type":"content_block_delta","delta":{"text":"x"}}\n\n');
      },
    });
    const answer = await ask({ body: "x".repeat(400) });
    const reader = answer.body.getReader();
    await reader.read();
    await reader.cancel();
    expect(proxy.usage("run_1")).toEqual({ inputTokens: 100, outputTokens: 1, requests: 1 });
  });

  test("granting again gives back no budget", async () => {
    const { ask, proxy } = await setup({ options: { limits: { maxRequests: 1 } } });
    await (await ask()).text();
    proxy.revoke("run_1");
    proxy.grant("run_1");
    expect(await code(ask())).toBe("429 model_budget");
  });
});

describe("where it listens", () => {
  test("on a socket that only its uid may open", async () => {
    const { socketPath } = await setup();
    const found = await stat(socketPath);
    expect(found.mode & 0o777).toBe(0o600);
    expect(found.uid).toBe(uid);
  });

  test("in the place of a stale socket, file or link, which is not followed", async () => {
    const { proxy, runDir, socketPath, ask } = await setup();
    const target = join(runDir, "victim");
    await writeFile(target, "x", { mode: 0o644 });
    await rm(socketPath);
    await symlink(target, socketPath);
    await using second = await proxy.openSandbox({ runDir, uid });
    expect(second.url).toBe(`unix:${socketPath}`);
    expect((await stat(target)).mode & 0o777).toBe(0o644);
    expect((await ask()).status).toBe(200);
  });

  test("on TCP with the same token", async () => {
    const { proxy, token } = await setup();
    await using listener = await proxy.listenTcp({ host: "127.0.0.1", port: 0 });
    const ask = (key: string) =>
      httpRequest({
        url: `${listener.url}/v1/messages`,
        method: "POST",
        headers: { "x-api-key": key },
        body: "{}",
        signal: new AbortController().signal,
      });
    expect((await ask(token)).status).toBe(200);
    expect((await ask("no")).status).toBe(401);
  });

  test("a path too long for a socket is refused with a fix", async () => {
    const { proxy } = await setup();
    const opened = proxy.openSandbox({ runDir: `/tmp/${"x".repeat(120)}`, uid });
    expect(opened).rejects.toMatchObject({ code: "usage" });
  });
});
