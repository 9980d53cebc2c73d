import type { HarnessEvent } from "../../sandbox/harness-client.ts";
import type { JournalDraft } from "../journal.ts";

/** A larger event would not pass the hub's limits either. */
const MAX_PAYLOAD_BYTES = 1024 * 1024;

/** Types of the daemon itself that a harness may say as well. */
const SHARED = new Set(["run.waiting_for_user", "run.resumed"]);

/** A name that may stand in a log as it is. */
const TYPE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$/;

/**
 * One event of harnessd as the journal keeps it: raw (LESSONS 21), but for the names that only the
 * daemon may use, and with `callId` and `durationMs` beside the Go program's own spelling.
 * Undefined for what the daemon says itself.
 */
export function mapHarnessEvent(event: HarnessEvent, at: string): JournalDraft | undefined {
  if (event.type === "run.started" || event.type === "run.queued") return undefined;
  const harnessEventId = event.id;
  const payload = withOurNames(event.payload);
  const bytes = Buffer.byteLength(JSON.stringify(payload));
  if (bytes > MAX_PAYLOAD_BYTES) {
    const lost = { reason: "event_too_large", bytes, type: event.type.slice(0, 128) };
    return { type: "log.gap", payload: lost, at, harnessEventId };
  }
  return { type: typeOf(event.type), payload, at, harnessEventId };
}

function typeOf(type: string): string {
  if (!TYPE.test(type)) return "harness.event";
  const ours = type.startsWith("run.") || type.startsWith("sandbox.");
  return ours && !SHARED.has(type) ? `harness.${type}` : type;
}

function withOurNames(payload: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { call_id: callId, duration_ms: durationMs } = payload;
  return {
    ...payload,
    ...(typeof callId === "string" && !("callId" in payload) ? { callId } : {}),
    ...(typeof durationMs === "number" && !("durationMs" in payload) ? { durationMs } : {}),
  };
}
