import { setTimeout as delay } from "node:timers/promises";
import { answerError } from "../net/answer-error.ts";
import { type HttpAnswer, httpRequest } from "../net/http-request.ts";
import { readSse } from "../net/sse-read.ts";
import { DecoError } from "../protocol/errors.ts";
import { RunEvent, terminalStatus } from "../protocol/run-events.ts";
import type { SseFrame } from "../protocol/sse.ts";
import { TAR_TYPE } from "../protocol/tar-rules.ts";
import { isRecord } from "./record.ts";

/** An HTTP API of ours: the hub by URL and Bearer token, or the daemon by its unix socket. */
export interface ApiTarget {
  readonly url?: string;
  readonly socketPath?: string;
  readonly token?: string;
}

export interface ApiCall {
  readonly method?: string;
  readonly path: string;
  readonly body?: object;
  /** A tar that is sent as it comes, in the place of `body`. */
  readonly tar?: ReadableStream<Uint8Array>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** How long to wait for the head of the answer; 30 s when absent. */
  readonly headersTimeoutMs?: number;
}

const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/**
 * One call; gives the parsed JSON answer, undefined for an empty one.
 *
 * @throws DecoError with the peer's code, or `hub_unreachable` / `not_running` when nothing answers.
 */
export async function callApi(target: ApiTarget, call: ApiCall): Promise<unknown> {
  const answer = await send(target, call);
  const text = await answer.text(MAX_ANSWER_BYTES);
  let value: unknown;
  try {
    value = text === "" ? undefined : (JSON.parse(text) as unknown);
  } catch (thrown) {
    if (answer.status < 400) throw notOurs(target, `${call.path} answered no JSON`, thrown);
  }
  if (answer.status >= 400) {
    if (isRecord(value) && typeof value["code"] === "string") throw DecoError.fromProblem(value);
    throw notOurs(target, `${call.path} answered ${answer.status}`);
  }
  return value;
}

/** How {@link followRun} follows. */
export interface FollowOptions {
  readonly runId: string;
  /** Number of the last event already seen; 0 from the start. */
  readonly after?: number;
  /** Attempt, where the daemon itself is asked. */
  readonly attempt?: number;
  readonly signal: AbortSignal;
  /** Told before each wait of a cut stream. */
  readonly onCut?: (error: DecoError) => void;
}

/**
 * A run's events from `after` on to its terminal one, over any number of cuts: each reconnect
 * resumes with Last-Event-ID. Ends after the terminal event, and at the end of a log that ended.
 *
 * @throws DecoError that trying again can't help, such as `run_not_found` or `unauthorized`.
 */
export async function* followRun(
  target: ApiTarget,
  options: FollowOptions,
): AsyncGenerator<RunEvent> {
  const { signal, runId, onCut } = options;
  const base = target.socketPath === undefined ? "/api/runs" : "/v1/runs";
  const query = options.attempt === undefined ? "" : `?attempt=${options.attempt}`;
  const path = `${base}/${encodeURIComponent(runId)}/events${query}`;
  let last = options.after ?? 0;
  let failures = 0;

  while (true) {
    signal.throwIfAborted();
    try {
      const headers = { accept: "text/event-stream", "last-event-id": String(last) };
      const answer = await send(target, { path, headers, signal });
      for await (const frame of readSse(answer)) {
        if (frame.data === "") continue;
        const event = parseEvent(frame.data);
        if (event.seq <= last) continue;
        if (event.seq !== last + 1) throw gap(runId, last, event.seq);
        last = event.seq;
        failures = 0;
        yield event;
        if (terminalStatus(event.type)) return;
      }
      if (await isOver(target, `${base}/${encodeURIComponent(runId)}`, last, signal)) return;
      throw new DecoError("hub_unreachable", "the stream ended before the run did");
    } catch (thrown) {
      signal.throwIfAborted();
      const error = DecoError.from(thrown, "hub_unreachable");
      // A daemon that restarts has no socket for a moment.
      if (!error.info.retryable && error.code !== "not_running") throw error;
      onCut?.(error);
      const capMs = Math.min(5000, 200 * 2 ** failures++);
      await delay(capMs / 2 + (Math.random() * capMs) / 2, undefined, { signal }).catch(() =>
        signal.throwIfAborted(),
      );
    }
  }
}

/** Whether the run ended and no event stands behind `last`: a stream that closes then is no cut. */
async function isOver(target: ApiTarget, path: string, last: number, signal: AbortSignal) {
  const run = await callApi(target, { path, signal });
  if (!isRecord(run)) return false;
  const ended = ["completed", "failed", "cancelled"].includes(String(run["status"]));
  return ended && typeof run["lastSeq"] === "number" && run["lastSeq"] <= last;
}

/** One call whose answer is a stream of events. @throws DecoError with the peer's code */
export async function* callStream(target: ApiTarget, call: ApiCall): AsyncGenerator<SseFrame> {
  const headers = { accept: "text/event-stream", ...call.headers };
  yield* readSse(await send(target, { ...call, headers }));
}

/** One call whose answer's body is read as it comes. @throws DecoError with the peer's code */
export async function callBytes(target: ApiTarget, call: ApiCall): Promise<HttpAnswer> {
  const answer = await send(target, call);
  if (answer.status < 400) return answer;
  throw await answerError(answer);
}

async function send(target: ApiTarget, call: ApiCall): Promise<HttpAnswer> {
  const headers: Record<string, string> = { accept: "application/json", ...call.headers };
  if (target.token !== undefined) headers["authorization"] = `Bearer ${target.token}`;
  if (call.body !== undefined) headers["content-type"] = "application/json";
  if (call.tar !== undefined) headers["content-type"] = TAR_TYPE;
  return httpRequest({
    method: call.method ?? "GET",
    headers,
    signal: call.signal,
    connectTimeoutMs: 10_000,
    ...(call.tar === undefined
      ? { headersTimeoutMs: call.headersTimeoutMs ?? 30_000 }
      : { body: call.tar }),
    unreachable: target.socketPath === undefined ? "hub_unreachable" : "not_running",
    ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
    ...(target.socketPath === undefined
      ? { url: `${(target.url ?? "").replace(/\/+$/, "")}${call.path}` }
      : { socketPath: target.socketPath, path: call.path }),
  });
}

function notOurs(target: ApiTarget, detail: string, cause?: unknown): DecoError {
  const where = target.url ?? target.socketPath ?? "";
  return new DecoError("hub_unreachable", `${where}: ${detail}`, {
    fix: "Check that a deco hub answers at that address, not something else.",
    cause,
  });
}

/** An event that can't be read would be no better the next time: not retryable. */
function parseEvent(data: string): RunEvent {
  try {
    return RunEvent.parse(JSON.parse(data));
  } catch (cause) {
    throw new DecoError("internal", `not a run event: ${data.slice(0, 200)}`, { cause });
  }
}

function gap(runId: string, last: number, next: number): DecoError {
  return new DecoError("internal", `event ${next} of run ${runId} came after event ${last}`);
}
