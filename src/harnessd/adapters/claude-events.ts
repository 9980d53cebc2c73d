import { z } from "zod";

/** A run event before the log numbers it. */
export interface EventDraft {
  readonly type: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** How a print-mode session of the CLI ended, by its own `result` line. */
export interface ClaudeResult {
  readonly isError: boolean;
  /** `success`, `error_max_turns`, `error_during_execution`, … */
  readonly subtype: string;
  /** HTTP status of the model's answer that ended it. */
  readonly apiStatus?: number;
  readonly text: string;
  readonly usage: ClaudeUsage;
}

/** Tokens and cost of the whole session. */
export interface ClaudeUsage {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheCreationTokens: number;
  readonly costUsd: number;
}

/** What must be remembered from line to line. */
export interface ClaudeState {
  readonly calls: Map<string, { readonly tool: string; readonly startedAt: number }>;
  result?: ClaudeResult;
  /** The last failure of a model request that the CLI tried again. */
  retriedStatus?: number;
}

export function newClaudeState(): ClaudeState {
  return { calls: new Map() };
}

/** In characters. */
const MAX_TOOL_OUTPUT = 64 * 1024;
/** In characters of JSON. */
const MAX_ARGUMENTS = 256 * 1024;

const Block = z.looseObject({
  type: z.string(),
  text: z.string().optional(),
  thinking: z.string().optional(),
  id: z.string().optional(),
  name: z.string().optional(),
  input: z.unknown().optional(),
  tool_use_id: z.string().optional(),
  content: z.unknown().optional(),
  is_error: z.boolean().nullish(),
});
type Block = z.infer<typeof Block>;

const Message = z.looseObject({
  model: z.string().optional(),
  content: z.union([z.string(), z.array(Block)]).optional(),
});

const count = z.number().catch(0);

const Line = z.discriminatedUnion("type", [
  z.looseObject({
    type: z.literal("system"),
    subtype: z.string().optional(),
    error_status: z.number().nullish(),
  }),
  z.looseObject({
    type: z.literal("stream_event"),
    parent_tool_use_id: z.string().nullish(),
    event: z.looseObject({
      type: z.string(),
      delta: z
        .looseObject({
          type: z.string().optional(),
          text: z.string().optional(),
          thinking: z.string().optional(),
        })
        .optional(),
    }),
  }),
  z.looseObject({
    type: z.enum(["assistant", "user"]),
    parent_tool_use_id: z.string().nullish(),
    message: Message,
  }),
  z.looseObject({
    type: z.literal("result"),
    subtype: z.string().catch(""),
    is_error: z.boolean().catch(false),
    api_error_status: z.number().nullish().catch(undefined),
    result: z.string().catch(""),
    total_cost_usd: count,
    usage: z
      .looseObject({
        input_tokens: count,
        output_tokens: count,
        cache_read_input_tokens: count,
        cache_creation_input_tokens: count,
      })
      .optional()
      .catch(undefined),
  }),
]);
type Line = z.infer<typeof Line>;

/**
 * The run events that one line of `claude -p --output-format stream-json --verbose` stands for.
 * Lines of unknown types, torn lines and lines that are no JSON give none.
 *
 * @param now milliseconds of any steady clock: durations of tool calls are its differences
 */
export function claudeEvents(state: ClaudeState, text: string, now: number): EventDraft[] {
  const line = parse(text);
  if (!line) return [];
  switch (line.type) {
    case "system":
      if (line.subtype === "api_retry" && line.error_status)
        state.retriedStatus = line.error_status;
      return [];
    case "stream_event":
      return delta(line.event.delta, parentOf(line));
    case "assistant":
      // The CLI's own words about a failure, which `result` repeats.
      if (line.message.model === "<synthetic>") return [];
      return blocks(line.message).flatMap((block) => said(state, block, parentOf(line), now));
    case "user":
      return blocks(line.message).flatMap((block) => toolEnded(state, block, parentOf(line), now));
    case "result":
      break;
  }
  state.result = resultOf(line);
  return [{ type: "usage", payload: { ...state.result.usage } }];
}

function parse(text: string): Line | undefined {
  try {
    return Line.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

type Parent = { readonly parentCallId?: string };

function parentOf(line: { parent_tool_use_id?: string | null | undefined }): Parent {
  return line.parent_tool_use_id ? { parentCallId: line.parent_tool_use_id } : {};
}

function blocks(message: z.infer<typeof Message>): readonly Block[] {
  return Array.isArray(message.content) ? message.content : [];
}

function delta(
  piece: { text?: string | undefined; thinking?: string | undefined } | undefined,
  parent: Parent,
): EventDraft[] {
  if (piece?.text) {
    return [{ type: "assistant.message.delta", payload: { content: piece.text, ...parent } }];
  }
  if (piece?.thinking) {
    return [{ type: "assistant.thinking.delta", payload: { content: piece.thinking, ...parent } }];
  }
  return [];
}

function said(state: ClaudeState, block: Block, parent: Parent, now: number): EventDraft[] {
  if (block.type === "text" && block.text) {
    return [{ type: "assistant.message", payload: { content: block.text, ...parent } }];
  }
  if (block.type !== "tool_use" || block.id === undefined) return [];
  const tool = block.name ?? "unknown";
  state.calls.set(block.id, { tool, startedAt: now });
  const payload = { callId: block.id, tool, arguments: shown(block.input), ...parent };
  return [{ type: "tool.call.started", payload }];
}

/** Arguments as events tell them: a file that is written whole would burst every limit on the way. */
function shown(input: unknown): unknown {
  const text = JSON.stringify(input ?? {});
  if (text.length <= MAX_ARGUMENTS) return input ?? {};
  return { truncated: true, json: text.slice(0, MAX_TOOL_OUTPUT) };
}

function toolEnded(state: ClaudeState, block: Block, parent: Parent, now: number): EventDraft[] {
  if (block.type !== "tool_result" || block.tool_use_id === undefined) return [];
  const callId = block.tool_use_id;
  const call = state.calls.get(callId);
  state.calls.delete(callId);
  const output = contentText(block.content).slice(-MAX_TOOL_OUTPUT);
  const payload = {
    callId,
    tool: call?.tool ?? "unknown",
    output,
    durationMs: call ? Math.round(now - call.startedAt) : 0,
    ...(block.is_error ? { error: output === "" ? "the tool failed" : output.slice(0, 2000) } : {}),
    ...parent,
  };
  return [{ type: "tool.call.completed", payload }];
}

function contentText(content: unknown): string {
  if (typeof content === "string") return content;
  const parsed = z.array(Block).safeParse(content);
  return (parsed.data ?? []).map((block) => block.text ?? `[${block.type}]`).join("\n");
}

function resultOf(line: Extract<Line, { type: "result" }>): ClaudeResult {
  const { usage } = line;
  return {
    isError: line.is_error || line.subtype !== "success",
    subtype: line.subtype,
    ...(line.api_error_status ? { apiStatus: line.api_error_status } : {}),
    text: line.result,
    usage: {
      inputTokens: usage?.input_tokens ?? 0,
      outputTokens: usage?.output_tokens ?? 0,
      cacheReadTokens: usage?.cache_read_input_tokens ?? 0,
      cacheCreationTokens: usage?.cache_creation_input_tokens ?? 0,
      costUsd: line.total_cost_usd,
    },
  };
}
