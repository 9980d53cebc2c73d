import type { Run } from "./runs.ts";

/** `GET /v1/runs/{id}`, as the public program answers it, plus `harness` and `exit_code`. */
export function runView({ record, state }: Run): Record<string, unknown> {
  const costStatus = state.costUsd > 0 ? "priced" : "pending";
  return {
    id: record.id,
    prompt: record.prompt,
    model: record.model ?? "",
    provider_name: "default",
    harness: record.harness,
    ...(record.clientRunId === undefined ? {} : { client_run_id: record.clientRunId }),
    status: state.status,
    ...(state.output === undefined ? {} : { output: state.output }),
    ...(state.error === undefined ? {} : { error: state.error }),
    ...(state.exitCode === undefined ? {} : { exit_code: state.exitCode }),
    usage_totals: {
      prompt_tokens_total: state.promptTokens,
      completion_tokens_total: state.completionTokens,
      total_tokens: state.promptTokens + state.completionTokens,
      last_turn_tokens: state.lastTurnTokens,
    },
    cost_totals: {
      cost_usd_total: state.costUsd,
      last_turn_cost_usd: state.costUsd,
      cost_status: costStatus,
    },
    tenant_id: "default",
    conversation_id: record.id,
    agent_id: "default",
    created_at: record.createdAt,
    updated_at: state.updatedAt,
  };
}

/** `GET /v1/runs/{id}/summary` of an ended run. */
export function summaryView({ record, state }: Run): Record<string, unknown> {
  const { promptTokens, cacheReadTokens } = state;
  return {
    run_id: record.id,
    status: state.status,
    steps_taken: state.steps,
    total_prompt_tokens: promptTokens,
    total_completion_tokens: state.completionTokens,
    total_cost_usd: state.costUsd,
    cost_status: state.costUsd > 0 ? "priced" : "pending",
    tool_calls: state.toolCalls,
    cache_hit_rate: promptTokens > 0 ? cacheReadTokens / promptTokens : 0,
    ...(state.error === undefined ? {} : { error: state.error }),
  };
}
