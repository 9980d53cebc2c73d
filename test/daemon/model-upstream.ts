import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

/** What the far side saw of one request. */
export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

export type Script = (
  response: ServerResponse,
  request: SeenRequest,
  raw: IncomingMessage,
) => void | Promise<void>;

/** A model service on loopback that answers by a script and remembers what it was asked. */
export async function startUpstream(script: Script) {
  const seen: SeenRequest[] = [];
  const waiting: (() => void)[] = [];
  const answer = async (raw: IncomingMessage, response: ServerResponse) => {
    let body = "";
    raw.setEncoding("utf8");
    for await (const chunk of raw) body += String(chunk);
    const { method = "", url = "", headers } = raw;
    const request = { method, url, headers, body };
    seen.push(request);
    for (const wake of waiting.splice(0)) wake();
    await script(response, request, raw);
  };
  const server = createServer((raw, response) => {
    response.on("error", () => undefined);
    // A client that breaks off its body is what some tests are about.
    answer(raw, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    async asked(times: number): Promise<void> {
      while (seen.length < times) await new Promise<void>((resolve) => waiting.push(resolve));
    },
    async [Symbol.asyncDispose](): Promise<void> {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** A short answer of the Messages API. */
export const MESSAGE = JSON.stringify({
  type: "message",
  content: [{ type: "text", text: "hello" }],
  usage: {
    input_tokens: 10,
    cache_creation_input_tokens: 3,
    cache_read_input_tokens: 2,
    output_tokens: 5,
  },
});

export function sendJson(response: ServerResponse, body: string, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(body);
}
