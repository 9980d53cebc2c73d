import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";

/** A request as the model server saw it. */
export interface RecordedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** A scripted stand-in for the Anthropic API: the far side of the model proxy. */
export interface ModelServer extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`; empty on a unix socket. */
  readonly url: string;
  readonly port: number;
  /** In the order of arrival. */
  readonly requests: readonly RecordedRequest[];
}

export interface ModelServerOptions {
  /** 0 (any free one) by default. */
  readonly port?: number;
  /** Instead of a port. */
  readonly socketPath?: string;
}

const Body = z.looseObject({
  model: z.string().default("claude-test"),
  stream: z.boolean().optional(),
  messages: z
    .array(z.looseObject({ role: z.string(), content: z.unknown().optional() }))
    .optional()
    .default([]),
});

const Block = z.looseObject({
  type: z.string(),
  text: z.string().optional(),
  content: z.unknown().optional(),
});

/** What the script answers. */
type Turn =
  | { readonly kind: "text"; readonly text: string; readonly thinking?: string }
  | { readonly kind: "tool"; readonly command: string }
  | { readonly kind: "slow"; readonly words: number; readonly delayMs: number }
  | { readonly kind: "status"; readonly status: number }
  | { readonly kind: "hang" };

/**
 * Starts the server. The words of the last user message say what it answers:
 * `usetool: COMMAND` a Bash tool call, then `Tool said: …`; `fail500` that status; `slow N MS` N
 * words, each after so many ms; `hang` headers and nothing more; `think` thinking and text;
 * `say TEXT` that text; else "Hello from the model.".
 */
export async function startModelServer(options: ModelServerOptions = {}): Promise<ModelServer> {
  const requests: RecordedRequest[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => {
    void answer(request, response, requests).catch(() => response.destroy());
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  const port = await listen(server, options);
  return {
    url: port === 0 ? "" : `http://127.0.0.1:${port}`,
    port,
    requests,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function listen(server: Server, options: ModelServerOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const ready = () => {
      const address = server.address();
      resolve(typeof address === "object" && address ? address.port : 0);
    };
    if (options.socketPath === undefined) server.listen(options.port ?? 0, "127.0.0.1", ready);
    else server.listen(options.socketPath, ready);
  });
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  requests: RecordedRequest[],
): Promise<void> {
  const { method = "GET", url: path = "/", headers } = request;
  const parts: Buffer[] = [];
  const chunks: AsyncIterable<Buffer> = request;
  for await (const chunk of chunks) parts.push(chunk);
  const body = Buffer.concat(parts).toString("utf8");
  requests.push({ method, path, headers, body });
  const route = `${method} ${path.split("?")[0]}`;
  if (route === "GET /v1/models") {
    return json(response, 200, {
      data: [{ type: "model", id: "claude-test", display_name: "Test" }],
      has_more: false,
    });
  }
  if (route === "POST /v1/messages/count_tokens") return json(response, 200, { input_tokens: 10 });
  if (route !== "POST /v1/messages") return apiError(response, 404, "not_found_error");
  const parsed = Body.safeParse(JSON.parse(body));
  if (!parsed.success) return apiError(response, 400, "invalid_request_error");
  await answerTurn(response, parsed.data, chooseTurn(parsed.data.messages));
}

async function answerTurn(
  response: ServerResponse,
  body: z.infer<typeof Body>,
  turn: Turn,
): Promise<void> {
  if (turn.kind === "status") return apiError(response, turn.status, "api_error");
  const message = newMessage(body.model);
  if (body.stream !== true) {
    const { content, stop_reason } = whole(turn);
    return json(response, 200, { ...message, content, stop_reason, usage: USAGE });
  }
  response.writeHead(200, { "content-type": "text/event-stream", "request-id": "req_test" });
  response.flushHeaders();
  const send = (event: { type: string; [key: string]: unknown }) => {
    response.write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
  };
  send({ type: "message_start", message });
  if (turn.kind === "hang") return;
  await sendContent(send, turn, () => response.destroyed);
  const { stop_reason } = whole(turn);
  send({
    type: "message_delta",
    delta: { stop_reason, stop_sequence: null },
    usage: { output_tokens: USAGE.output_tokens },
  });
  send({ type: "message_stop" });
  response.end();
}

type Send = (event: { type: string; [key: string]: unknown }) => void;

async function sendContent(
  send: Send,
  turn: Exclude<Turn, { kind: "status" | "hang" }>,
  gone: () => boolean,
): Promise<void> {
  if (turn.kind === "slow") {
    send({ type: "content_block_start", index: 0, content_block: { type: "text", text: "" } });
    for (let word = 0; word < turn.words && !gone(); word++) {
      send({
        type: "content_block_delta",
        index: 0,
        delta: { type: "text_delta", text: `word${word} ` },
      });
      await sleep(turn.delayMs);
    }
    send({ type: "content_block_stop", index: 0 });
    return;
  }
  for (const [index, block] of whole(turn).content.entries()) {
    send({ type: "content_block_start", index, content_block: emptied(block) });
    for (const delta of deltas(block)) send({ type: "content_block_delta", index, delta });
    send({ type: "content_block_stop", index });
  }
}

type Content =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "thinking"; readonly thinking: string; readonly signature: string }
  | {
      readonly type: "tool_use";
      readonly id: string;
      readonly name: string;
      readonly input: object;
    };

function whole(turn: Turn): { content: Content[]; stop_reason: string } {
  if (turn.kind === "tool") {
    const input = { command: turn.command, description: "scripted command" };
    const id = `toolu_${Math.random().toString(36).slice(2, 12)}`;
    return {
      content: [
        { type: "text", text: "I will run a command." },
        { type: "tool_use", id, name: "Bash", input },
      ],
      stop_reason: "tool_use",
    };
  }
  const text = turn.kind === "text" ? turn.text : "word";
  const thinking: Content[] =
    turn.kind === "text" && turn.thinking !== undefined
      ? [{ type: "thinking", thinking: turn.thinking, signature: "c2lnbmVk" }]
      : [];
  return { content: [...thinking, { type: "text", text }], stop_reason: "end_turn" };
}

function emptied(block: Content): object {
  if (block.type === "text") return { type: "text", text: "" };
  if (block.type === "thinking") return { type: "thinking", thinking: "", signature: "" };
  return { ...block, input: {} };
}

function deltas(block: Content): object[] {
  if (block.type === "text") {
    const half = Math.ceil(block.text.length / 2);
    const pieces = [block.text.slice(0, half), block.text.slice(half)];
    return pieces.map((text) => ({ type: "text_delta", text }));
  }
  if (block.type === "thinking") {
    return [
      { type: "thinking_delta", thinking: block.thinking },
      { type: "signature_delta", signature: block.signature },
    ];
  }
  return [{ type: "input_json_delta", partial_json: JSON.stringify(block.input) }];
}

function chooseTurn(messages: z.infer<typeof Body>["messages"]): Turn {
  const last = messages.findLast((message) => message.role === "user");
  const blocks = z.array(Block).safeParse(last?.content).data ?? [];
  const toolResult = blocks.find((block) => block.type === "tool_result");
  if (toolResult) return { kind: "text", text: `Tool said: ${flat(toolResult.content)}` };
  const text =
    typeof last?.content === "string"
      ? last.content
      : blocks.map((block) => block.text ?? "").join("\n");
  const tool = /^usetool: *(.+)$/m.exec(text)?.[1];
  if (tool !== undefined) return { kind: "tool", command: tool };
  const status = /\bfail(\d{3})\b/.exec(text)?.[1];
  if (status !== undefined) return { kind: "status", status: Number(status) };
  const slow = /^slow (\d+) (\d+)/m.exec(text);
  if (slow) return { kind: "slow", words: Number(slow[1]), delayMs: Number(slow[2]) };
  if (/^hang\b/m.test(text)) return { kind: "hang" };
  if (/^think\b/m.test(text)) return { kind: "text", text: "I thought.", thinking: "Let me see." };
  const say = /^say (.+)$/m.exec(text)?.[1];
  return { kind: "text", text: say ?? "Hello from the model." };
}

function flat(content: unknown): string {
  if (typeof content === "string") return content;
  const blocks = z.array(Block).safeParse(content).data ?? [];
  return blocks.map((block) => block.text ?? "").join("");
}

const USAGE = {
  input_tokens: 10,
  output_tokens: 5,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: 0,
};

function newMessage(model: string): object {
  return {
    id: `msg_${Math.random().toString(36).slice(2, 12)}`,
    type: "message",
    role: "assistant",
    model,
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { ...USAGE, output_tokens: 1 },
  };
}

function apiError(response: ServerResponse, status: number, type: string): void {
  json(response, status, { type: "error", error: { type, message: `scripted ${status}` } });
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
