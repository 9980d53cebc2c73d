import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { claudeEvents, newClaudeState } from "../../src/harnessd/adapters/claude-events.ts";

// Lines that the real CLI printed.
function replay(name: string) {
  const text = readFileSync(
    join(import.meta.dirname, `../data/agents/claude-print/${name}.jsonl`),
    "utf8",
  );
  const state = newClaudeState();
  let now = 0;
  const events = text.split("\n").flatMap((line) => claudeEvents(state, line, (now += 10)));
  return { state, events, types: events.map((event) => event.type) };
}

test("a text turn gives its message, its usage and its result", () => {
  const { state, types, events } = replay("text");
  expect(types).toEqual(["assistant.message", "usage"]);
  expect(events[0]?.payload).toEqual({ content: "Hello from the mock model." });
  expect(state.result).toMatchObject({
    isError: false,
    text: "Hello from the mock model.",
    usage: { inputTokens: 10, outputTokens: 5, costUsd: 0.000175 },
  });
});

test("partial messages give deltas that add up to the message", () => {
  const { types, events } = replay("text-partial");
  expect(types).toEqual(["assistant.message.delta", "assistant.message", "usage"]);
  expect(events[0]?.payload).toEqual(events[1]?.payload ?? {});
});

test("a tool call is started with its arguments and completed with its output and duration", () => {
  const { types, events } = replay("tool-skip-permissions");
  expect(types).toEqual([
    "assistant.message",
    "tool.call.started",
    "tool.call.completed",
    "assistant.message",
    "usage",
  ]);
  expect(events[1]?.payload).toMatchObject({
    callId: "toolu_0374",
    tool: "Bash",
    arguments: { command: "echo hello > /workspace/x && cat /workspace/x" },
  });
  expect(events[2]?.payload).toEqual({
    callId: "toolu_0374",
    tool: "Bash",
    output: "hello",
    durationMs: 10,
  });
});

test("a tool's refusal is told as the call's error", () => {
  const { events } = replay("tool-default-permissions-blocked");
  const completed = events.find((event) => event.type === "tool.call.completed");
  expect(completed?.payload["error"]).toContain("was blocked");
});

test("arguments that are a whole file are cut, so that the event passes every limit", () => {
  const input = { file_path: "/workspace/big", content: "x".repeat(2_000_000) };
  const content = [{ type: "tool_use", id: "t", name: "Write", input }];
  const line = JSON.stringify({ type: "assistant", message: { content } });
  const [event] = claudeEvents(newClaudeState(), line, 0);
  expect(event?.payload["arguments"]).toMatchObject({ truncated: true });
  expect(JSON.stringify(event).length).toBeLessThan(200_000);
});

test("HTTP 500 from the model is a result with its status, not an answer", () => {
  const { state, types } = replay("api-500-retries2");
  expect(types).toEqual(["usage"]);
  expect(state).toMatchObject({ result: { isError: true, apiStatus: 500 }, retriedStatus: 500 });
});

test("a session that a signal cut has no result", () => {
  const { state, types } = replay("signal-TERM");
  expect(new Set(types)).toEqual(new Set(["assistant.message.delta"]));
  expect(state.result).toBeUndefined();
});

test("torn lines, other words and unknown types give nothing", () => {
  const state = newClaudeState();
  for (const line of [
    "",
    "{",
    "hello",
    "[1]",
    '{"type":"later"}',
    '{"type":"assistant"}',
    "null",
  ]) {
    expect(claudeEvents(state, line, 0)).toEqual([]);
  }
});
