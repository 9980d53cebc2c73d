import { setTimeout as sleep } from "node:timers/promises";
import { readSse } from "../net/sse-read.ts";
import { DecoError } from "../protocol/errors.ts";
import { terminalStatus } from "../protocol/run-events.ts";
import type { SseFrame } from "../protocol/sse.ts";
import type { HarnessEvent, HarnessRunState } from "./harness-client.ts";
import { harnessRequest } from "./harness-request.ts";
import type { HarnessEndpoint } from "./provider.ts";

export interface HarnessEventsOptions {
  /** Id (`<run>:<seq>`) of the last event that the caller has. */
  readonly after?: string;
  /** Silence after which harnessd is asked whether the run still goes on; 15,000. */
  readonly idleCheckMs?: number;
  /** Attempts without a new event until it counts as unreachable; 6 (about 6 s). */
  readonly maxFailures?: number;
}

interface Source {
  readonly endpoint: HarnessEndpoint;
  readonly runId: string;
  readonly options: HarnessEventsOptions;
  readonly signal: AbortSignal;
  readonly getRun: (signal: AbortSignal) => Promise<HarnessRunState>;
}

/** Where the reader stands; changed only by {@link harnessEvents}. */
interface Position {
  last: number;
  /** The number behind which a hole was seen; seen twice it is real. */
  holeBehind: number | undefined;
  failures: number;
}

const ENDED = new Set(["completed", "failed", "cancelled"]);

/**
 * Every event of one harnessd run behind `after`, up to the terminal one. Survives what the public
 * Go program does: it answers with headers only at the first event, sends no heartbeats, never
 * answers a resume at the end of a finished run (LESSONS 24), and drops events under load.
 */
export async function* harnessEvents(source: Source): AsyncGenerator<HarnessEvent> {
  const maxFailures = source.options.maxFailures ?? 6;
  const at: Position = { last: seqOf(source.options.after), holeBehind: undefined, failures: 0 };
  for (;;) {
    try {
      if (yield* readOnce(source, at)) return;
      at.failures += 1;
    } catch (thrown) {
      source.signal.throwIfAborted();
      at.failures += 1;
      const error = DecoError.from(thrown, "harness_unreachable");
      if (error.code === "run_not_found" || at.failures >= maxFailures) throw error;
    }
    if (at.failures >= maxFailures) {
      throw new DecoError("harness_unreachable", `the events of ${source.runId} broke off`);
    }
    await sleep(Math.min(100 * 2 ** at.failures, 2_000), undefined, { signal: source.signal });
  }
}

/** One connection. Returns true behind the terminal event, false when another one is needed. */
async function* readOnce(source: Source, at: Position): AsyncGenerator<HarnessEvent, boolean> {
  const stop = new AbortController();
  const signal = AbortSignal.any([source.signal, stop.signal]);
  const frames = openFrames(source, await resumeBehind(source, at.last), signal);
  try {
    for (;;) {
      const frame = await nextFrame(frames, source);
      if (frame === undefined) return false;
      const event = readEvent(source.runId, frame, at.last + 1);
      if (event.seq <= at.last) {
        if (terminalStatus(event.type) !== undefined) return true;
        continue;
      }
      if (event.seq > at.last + 1) {
        const first = at.holeBehind !== at.last;
        at.holeBehind = at.last;
        if (first) return false;
        yield gap(source.runId, at.last + 1, event);
      }
      at.last = event.seq;
      at.failures = 0;
      yield event;
      if (terminalStatus(event.type) !== undefined) return true;
    }
  } finally {
    stop.abort();
    await frames.return(undefined).catch(() => undefined);
  }
}

/** The number to resume behind; one less for an ended run, which then has something to send. */
async function resumeBehind(source: Source, last: number): Promise<number> {
  if (last < 0) return last;
  const state = await source.getRun(source.signal);
  return ENDED.has(state.status) ? last - 1 : last;
}

async function* openFrames(
  { endpoint, runId }: Source,
  behind: number,
  signal: AbortSignal,
): AsyncGenerator<SseFrame, undefined> {
  const headers = new Headers({ accept: "text/event-stream" });
  if (behind >= 0) headers.set("last-event-id", `${runId}:${behind}`);
  const path = `/v1/runs/${encodeURIComponent(runId)}/events`;
  const answer = await harnessRequest(endpoint, { path, headers, deadlineMs: 0 }, signal);
  if (answer.status === 404) {
    await answer.body.cancel();
    throw new DecoError("run_not_found", `harnessd does not know run ${runId}`);
  }
  yield* readSse(answer, { fallback: "harness_unreachable" });
  return undefined;
}

/** The next frame; undefined at the end, or when a silent stream belongs to an ended run. */
async function nextFrame(
  frames: AsyncGenerator<SseFrame, undefined>,
  source: Source,
): Promise<SseFrame | undefined> {
  const next = frames.next();
  // Lost races are handled by the caller's next attempt.
  next.catch(() => undefined);
  for (;;) {
    const timer = new AbortController();
    const idle = sleep(source.options.idleCheckMs ?? 15_000, "idle" as const, {
      signal: AbortSignal.any([timer.signal, source.signal]),
    });
    idle.catch(() => undefined);
    try {
      const first = await Promise.race([next, idle]);
      if (first !== "idle") return first.done === true ? undefined : first.value;
    } finally {
      timer.abort();
    }
    const state = await source.getRun(source.signal);
    if (ENDED.has(state.status)) return undefined;
  }
}

/** Reads one frame; what is missing or foreign is replaced by what is known. */
function readEvent(runId: string, frame: SseFrame, expected: number): HarnessEvent {
  const data = parse(frame.data);
  const id = frame.id ?? text(data["id"]) ?? "";
  const seq = id.startsWith(`${runId}:`) ? seqOf(id) : -1;
  const payload = data["payload"];
  return {
    id: seq < 0 ? `${runId}:${expected}` : id,
    seq: seq < 0 ? expected : seq,
    type: text(data["type"]) ?? frame.event ?? "message",
    at: text(data["timestamp"]) ?? text(data["at"]) ?? new Date().toISOString(),
    payload: isRecord(payload) ? payload : {},
  };
}

function gap(runId: string, from: number, next: HarnessEvent): HarnessEvent {
  const to = next.seq - 1;
  return { id: `${runId}:${to}`, seq: to, type: "log.gap", at: next.at, payload: { from, to } };
}

/** The number at the end of `<run>:<seq>`, -1 when there is none. */
function seqOf(id: string | undefined): number {
  const digits = /:(\d{1,15})$/.exec(id ?? "")?.[1];
  return digits === undefined ? -1 : Number(digits);
}

function parse(data: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(data);
    return isRecord(value) ? value : {};
  } catch {
    return {};
  }
}

const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
