import { expect } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import {
  createModelProxy,
  type ModelProxyOptions,
} from "../../src/daemon/model-proxy/model-proxy.ts";
import { httpRequest } from "../../src/net/http-request.ts";
import { MESSAGE, type Script, sendJson, startUpstream } from "./model-upstream.ts";

export const KEY = "sk-the-real-key";
export const uid = process.getuid?.() ?? 0;

/** What {@link setup} made and `closeAll` takes down. */
const cleanups: (() => PromiseLike<unknown>)[] = [];
export async function closeAll(): Promise<void> {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
}

export interface Setup {
  script?: Script;
  options?: Partial<ModelProxyOptions>;
}

export async function setup({ script, options }: Setup = {}) {
  const upstream = await startUpstream(script ?? ((response) => sendJson(response, MESSAGE)));
  cleanups.push(() => upstream[Symbol.asyncDispose]());
  const runDir = await mkdtemp(join(tmpdir(), "deco-model-"));
  cleanups.push(() => rm(runDir, { recursive: true }));
  const proxy = createModelProxy({
    upstreams: {
      anthropic: { baseUrl: upstream.url, apiKey: KEY },
      openai: { baseUrl: `${upstream.url}/v1`, apiKey: KEY },
    },
    log: { info: () => undefined },
    ...options,
  });
  const listener = await proxy.openSandbox({ runDir, uid });
  cleanups.push(() => listener[Symbol.asyncDispose]());
  const socketPath = join(runDir, "model.sock");
  const { token } = proxy.grant("run_1");
  return { upstream, proxy, socketPath, token, runDir, ask: asker(socketPath, token) };
}

export interface Ask {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array | ReadableStream<Uint8Array>;
  signal?: AbortSignal;
}

export function asker(socketPath: string, token: string) {
  return ({ method = "POST", path = "/v1/messages", headers, body, signal }: Ask = {}) =>
    httpRequest({
      socketPath,
      method,
      path,
      headers: { "x-api-key": token, "content-type": "application/json", ...headers },
      ...(method === "GET" || method === "HEAD" ? {} : { body: body ?? "{}" }),
      signal: signal ?? new AbortController().signal,
    });
}

export async function code(asked: ReturnType<ReturnType<typeof asker>>): Promise<string> {
  const answer = await asked;
  expect(answer.headers.get("content-type")).toBe("application/problem+json");
  const problem = z.looseObject({ code: z.string() }).parse(await answer.json());
  expect(problem["status"]).toBe(answer.status);
  expect(problem["error"]).toMatchObject({ code: problem.code });
  return `${answer.status} ${problem.code}`;
}

/** One raw request, for what no client would send. */
export function raw(socketPath: string, text: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connect(socketPath, () => socket.write(text));
    socket.on("data", (chunk) => {
      answer += chunk.toString("latin1");
      if (/\r\n\r\n./s.test(answer)) socket.destroy();
    });
    socket.on("error", () => undefined);
    socket.once("close", () => resolve(answer));
  });
}
