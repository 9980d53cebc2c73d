import { z } from "zod";

/** The event types of protocol 1. Readers ignore types that they don't know. */
export const RUN_EVENT_TYPES = [
  "run.queued",
  "run.started",
  "run.suspended",
  "run.resumed",
  "run.waiting_for_user",
  "run.completed",
  "run.failed",
  "run.cancelled",
  "sandbox.provisioning",
  "sandbox.ready",
  "assistant.message.delta",
  "assistant.message",
  "assistant.thinking.delta",
  "tool.call.started",
  "tool.output.delta",
  "tool.call.completed",
  "tool.approval_required",
  "usage",
  "artifact",
  "log.gap",
] as const;

export type RunEventType = (typeof RUN_EVENT_TYPES)[number];

/** Where a run stands, as ledger, registry and heartbeat say it. */
export const RunStatus = z.enum([
  "queued",
  "running",
  "waiting",
  "completed",
  "failed",
  "cancelled",
]);
export type RunStatus = z.infer<typeof RunStatus>;

/** One numbered line of a run's log: the `data` of one SSE frame. */
export const RunEvent = z.object({
  /** From 1, contiguous per run and attempt at each hop. */
  seq: z.int().min(1),
  runId: z.string().min(1).max(128),
  type: z.string().min(1).max(128),
  /** RFC 3339, UTC, milliseconds. */
  at: z.string().min(1).max(64),
  payload: z.record(z.string(), z.unknown()),
});
export type RunEvent = z.infer<typeof RunEvent>;

/** An event before it has a number. */
export interface RunEventDraft {
  readonly type: RunEventType;
  readonly payload: Readonly<Record<string, unknown>>;
  /** RFC 3339; the writer's clock when absent. */
  readonly at?: string;
}

const TERMINAL: Readonly<Record<string, "completed" | "failed" | "cancelled">> = {
  "run.completed": "completed",
  "run.failed": "failed",
  "run.cancelled": "cancelled",
};

/** The end state that a terminal event stands for, else undefined. */
export function terminalStatus(type: string): "completed" | "failed" | "cancelled" | undefined {
  return Object.hasOwn(TERMINAL, type) ? TERMINAL[type] : undefined;
}

/** Whether a status is an end. */
export function isEnded(status: RunStatus): boolean {
  return status === "completed" || status === "failed" || status === "cancelled";
}

/** The bytes of an event's `data` line: what is journaled, chained, sent and stored. */
export function encodeRunEvent(event: RunEvent): string {
  const { seq, runId, type, at, payload } = event;
  return JSON.stringify({ seq, runId, type, at, payload });
}
