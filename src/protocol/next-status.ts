import { type RunStatus, terminalStatus } from "./run-events.ts";

interface Happening {
  readonly type: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** The run's status after one more event; what a run is follows from its events alone. */
export function nextStatus(status: RunStatus, { type, payload }: Happening): RunStatus {
  const ended = terminalStatus(type);
  if (ended) return ended;
  switch (type) {
    case "run.queued":
      return "queued";
    case "run.waiting_for_user":
    case "tool.approval_required":
      return "waiting";
    case "run.started":
    case "tool.approval_granted":
    case "tool.approval_denied":
    case "tool.call.completed":
    case "assistant.message":
      return "running";
    case "run.resumed":
      // The journal has room again, the laptop woke: whatever the run was doing, it still does.
      return payload["reason"] === "journal_full" || payload["reason"] === "sleep"
        ? status
        : "running";
    default:
      return status;
  }
}
