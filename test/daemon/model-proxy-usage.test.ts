import { describe, expect, test } from "bun:test";
import { UsageMeter } from "../../src/daemon/model-proxy/usage-meter.ts";

const SSE = "text/event-stream; charset=utf-8";

function events(...data: object[]): string {
  return data.map((one) => `event: x\ndata: ${JSON.stringify(one)}\n\n`).join("");
}

/** Reads an answer in pieces of `size` bytes. */
function measure(text: string, contentType = SSE, size = 7, contentEncoding?: string) {
  const meter = new UsageMeter({ contentType, contentEncoding });
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += size) meter.push(bytes.subarray(at, at + size));
  meter.end();
  const { inputTokens, outputTokens } = meter.soFar(400);
  return [inputTokens, outputTokens];
}

const start = {
  type: "message_start",
  message: {
    usage: { input_tokens: 20, cache_read_input_tokens: 5, output_tokens: 1 },
  },
};
const delta = { type: "content_block_delta", delta: { type: "text_delta", text: "héllo" } };

describe("usage is read from", () => {
  test("Anthropic's stream: the start has the input, the last delta the output", () => {
    const end = { type: "message_delta", delta: {}, usage: { output_tokens: 42 } };
    expect(measure(events(start, delta, delta, end, { type: "message_stop" }))).toEqual([25, 42]);
  });

  test("Anthropic's JSON", () => {
    const usage = { input_tokens: 7, cache_creation_input_tokens: 1, output_tokens: 9 };
    expect(measure(JSON.stringify({ usage }), "application/json")).toEqual([8, 9]);
  });

  test("the last chunk of a chat completion", () => {
    const chunk = { choices: [{ delta: { content: "a" } }], usage: null };
    const last = { choices: [], usage: { prompt_tokens: 11, completion_tokens: 12 } };
    expect(measure(`${events(chunk, chunk, last)}data: [DONE]\n\n`)).toEqual([11, 12]);
  });

  test("response.completed of the Responses API, and its JSON", () => {
    const created = { type: "response.created", response: { usage: null } };
    const usage = { input_tokens: 3, output_tokens: 4 };
    const completed = { type: "response.completed", response: { usage } };
    expect(measure(events(created, completed))).toEqual([3, 4]);
    expect(measure(JSON.stringify({ object: "response", usage }), "application/json")).toEqual([
      3, 4,
    ]);
  });
});

describe("where nothing is told, it is estimated", () => {
  test("a stream that was broken off counts a token for each delta", () => {
    expect(measure(events(start, delta, delta, delta))).toEqual([25, 3]);
  });

  test("a chat completion without include_usage counts bytes in and deltas out", () => {
    const chunk = { choices: [{ delta: { content: "a" } }] };
    expect(measure(events(chunk, chunk))).toEqual([100, 2]);
  });

  test("an answer that can't be read counts its bytes", () => {
    expect(measure("x".repeat(40), "application/json")).toEqual([100, 10]);
    expect(measure("x".repeat(40), SSE, 7, "gzip")).toEqual([100, 10]);
    expect(
      measure('{"usage":{"input_tokens":-5,"output_tokens":"9"}}', "application/json"),
    ).toEqual([100, 13]);
  });

  test("text of the model that looks like a usage changes nothing", () => {
    const fake = '{"usage":{"input_tokens":0,"output_tokens":0}}';
    const liar = {
      type: "content_block_delta",
      delta: { text: fake, usage: { output_tokens: 0 } },
    };
    expect(measure(events(start, liar, liar))).toEqual([25, 2]);
  });
});
