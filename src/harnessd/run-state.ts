import { type RunStatus, terminalStatus } from "../protocol/run-events.ts";
import type { HarnessEvent } from "./event-log.ts";

/** What the log says about a run: `GET /v1/runs/{id}` and its summary, rebuilt from events alone. */
export interface RunState {
  status: RunStatus;
  output?: string;
  error?: string;
  exitCode?: number;
  updatedAt: string;
  promptTokens: number;
  completionTokens: number;
  lastTurnTokens: number;
  costUsd: number;
  cacheReadTokens: number;
  steps: number;
  toolCalls: { tool_name: string; step: number }[];
}

/** The summary names no more tool calls than this. */
const MAX_TOOL_CALLS = 1000;

export function newRunState(createdAt: string): RunState {
  return {
    status: "queued",
    updatedAt: createdAt,
    promptTokens: 0,
    completionTokens: 0,
    lastTurnTokens: 0,
    costUsd: 0,
    cacheReadTokens: 0,
    steps: 0,
    toolCalls: [],
  };
}

/** Takes one event into account. */
export function applyEvent(state: RunState, event: HarnessEvent): void {
  const { type, payload } = event;
  state.updatedAt = event.timestamp;
  const end = terminalStatus(type);
  if (end) state.status = end;
  if (type === "run.started" || type === "run.resumed") state.status = "running";
  if (type === "run.waiting_for_user" || type === "tool.approval_required")
    state.status = "waiting";
  if (type === "run.completed" && typeof payload["output"] === "string")
    state.output = payload["output"];
  if (type === "run.failed" && typeof payload["error"] === "string") state.error = payload["error"];
  if (typeof payload["exitCode"] === "number") state.exitCode = payload["exitCode"];
  if (type === "usage") addUsage(state, payload);
  if (type === "assistant.message") state.steps += 1;
  if (type === "tool.call.started" && state.toolCalls.length < MAX_TOOL_CALLS) {
    state.toolCalls.push({ tool_name: String(payload["tool"]), step: Math.max(1, state.steps) });
  }
}

function addUsage(state: RunState, payload: HarnessEvent["payload"]): void {
  const input =
    count(payload["inputTokens"]) +
    count(payload["cacheReadTokens"]) +
    count(payload["cacheCreationTokens"]);
  const output = count(payload["outputTokens"]);
  state.promptTokens += input;
  state.completionTokens += output;
  state.cacheReadTokens += count(payload["cacheReadTokens"]);
  state.lastTurnTokens = input + output;
  state.costUsd += count(payload["costUsd"]);
}

function count(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}
