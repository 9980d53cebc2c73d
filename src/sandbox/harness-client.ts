import type { HttpAnswer } from "../net/http-request.ts";
import { DecoError } from "../protocol/errors.ts";
import { type HarnessEventsOptions, harnessEvents } from "./harness-events.ts";
import { type HarnessRequest, harnessRequest } from "./harness-request.ts";
import { type UpgradeAnswer, upgradeHarness } from "./harness-upgrade.ts";
import type { HarnessEndpoint } from "./provider.ts";

/** Body of harnessd's `POST /v1/runs`; the Go program takes the fields up to `permissions`. */
export interface CreateHarnessRun {
  readonly prompt: string;
  readonly model?: string;
  readonly max_steps?: number;
  readonly system_prompt?: string;
  readonly permissions?: Readonly<Record<string, unknown>>;
  readonly harness?: string;
  readonly timeout_seconds?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** Our own name of the run: asked for again, ours answers the same run. The Go program ignores it. */
  readonly client_run_id?: string;
  /** Token of this run for the model proxy. */
  readonly model_access?: { readonly token: string };
  readonly [extension: string]: unknown;
}

/** What harnessd says of one of its runs. Never trusted for more than progress. */
export interface HarnessRunState {
  readonly id: string;
  readonly status: string;
  readonly output?: string;
  readonly error?: string;
}

/** What harnessd's list says of runs. */
export interface HarnessRunList {
  /** Whether it looked for our name, so that asking again starts nothing twice. */
  readonly byName: boolean;
  /** The one with our name, or, from a program that knows no names, all that it lists. */
  readonly runs: readonly {
    readonly id: string;
    readonly status: string;
    readonly prompt: string;
  }[];
}

/** One event of harnessd's own log. `id` is `<run>:<seq>`, `seq` counts from 0. */
export interface HarnessEvent {
  readonly id: string;
  readonly seq: number;
  readonly type: string;
  /** RFC 3339. */
  readonly at: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** One adapter of a sandbox's harnessd. */
export interface HarnessAdapter {
  readonly name: string;
  readonly available: boolean;
  readonly version?: string;
  readonly reason?: string;
}

export interface ProxyRequest {
  /** TCP port inside the sandbox. */
  readonly port: number;
  readonly method: string;
  /** Path with query, as the server inside shall see it; starts with `/`. */
  readonly path: string;
  readonly headers: Headers;
  readonly body?: Uint8Array | ReadableStream<Uint8Array>;
}

export interface HarnessClient {
  health(signal: AbortSignal): Promise<void>;
  /** The adapters that this harnessd offers; the Go program has none to name. */
  harnesses(signal: AbortSignal): Promise<HarnessAdapter[]>;
  createRun(body: CreateHarnessRun, signal: AbortSignal): Promise<{ runId: string }>;
  getRun(runId: string, signal: AbortSignal): Promise<HarnessRunState>;
  /** The run that was created with this `client_run_id`. @throws harness_unreachable */
  findRuns(clientRunId: string, signal: AbortSignal): Promise<HarnessRunList>;
  /** We hold everything up to this event: harnessd may drop it. False when it takes no acks. */
  ack(runId: string, seq: number, signal: AbortSignal): Promise<boolean>;
  /**
   * Yields every event behind `after` up to the terminal one; reconnects by itself. A hole that
   * harnessd itself can't fill is yielded as one `log.gap` `{from, to}`.
   *
   * @throws harness_unreachable when harnessd is gone, run_not_found when it forgot the run
   */
  events(
    runId: string,
    options: HarnessEventsOptions,
    signal: AbortSignal,
  ): AsyncIterable<HarnessEvent>;
  cancel(runId: string, signal: AbortSignal): Promise<void>;
  input(runId: string, text: string, signal: AbortSignal): Promise<void>;
  approve(runId: string, decision: { callId?: string }, signal: AbortSignal): Promise<void>;
  deny(
    runId: string,
    decision: { callId?: string; reason?: string },
    signal: AbortSignal,
  ): Promise<void>;
  /** Reverse proxy into the sandbox: the answer of the server on that port, unread. */
  proxy(request: ProxyRequest, signal: AbortSignal): Promise<HttpAnswer>;
  /** The same for an upgrade (WebSocket): a raw socket after 101, else the refusing answer. */
  upgrade(request: Omit<ProxyRequest, "body">, signal: AbortSignal): Promise<UpgradeAnswer>;
}

/**
 * The daemon's side of harnessd's HTTP API. Treats the Go program and ours alike.
 *
 * @see PROTOCOL.md, section "harnessd"
 */
export function harnessClient(endpoint: HarnessEndpoint): HarnessClient {
  const json = (request: HarnessRequest, signal: AbortSignal) =>
    harnessJson(endpoint, request, signal);
  const post = async (runId: string, verb: string, body: object, signal: AbortSignal) => {
    await json({ method: "POST", path: `${runPath(runId)}/${verb}`, body }, signal);
  };
  const getRun = async (runId: string, signal: AbortSignal) =>
    readRunState(runId, await json({ path: runPath(runId) }, signal));
  return {
    health: async (signal) => {
      await json({ path: "/healthz" }, signal);
    },
    harnesses: async (signal) => readAdapters(endpoint, signal),
    createRun: async (body, signal) => {
      const answer = await json({ method: "POST", path: "/v1/runs", body }, signal);
      const runId = answer["run_id"] ?? answer["id"];
      if (typeof runId === "string" && runId !== "") return { runId };
      throw new DecoError("harness_failed", "harnessd accepted a run without naming it");
    },
    getRun,
    findRuns: (clientRunId, signal) => findRuns(endpoint, clientRunId, signal),
    ack: async (runId, seq, signal) => {
      const request = { method: "POST", path: `${runPath(runId)}/ack`, body: { seq } };
      const answer = await harnessRequest(endpoint, request, signal);
      await answer.body.cancel();
      return answer.status === 200;
    },
    events: (runId, options, signal) =>
      harnessEvents({ endpoint, runId, options, signal, getRun: (s) => getRun(runId, s) }),
    cancel: (runId, signal) => post(runId, "cancel", {}, signal),
    input: (runId, text, signal) => post(runId, "input", { text, answers: { "0": text } }, signal),
    approve: (runId, decision, signal) => post(runId, "approve", wireDecision(decision), signal),
    deny: (runId, decision, signal) => post(runId, "deny", wireDecision(decision), signal),
    proxy: (request, signal) =>
      harnessRequest(
        endpoint,
        { ...request, path: proxyPath(request), headers: request.headers, deadlineMs: 0 },
        signal,
      ),
    upgrade: (request, signal) =>
      upgradeHarness(endpoint, { ...request, path: proxyPath(request) }, signal),
  };
}

function wireDecision(decision: { callId?: string; reason?: string }): object {
  const { callId, reason } = decision;
  return {
    ...(callId === undefined ? {} : { call_id: callId }),
    ...(reason === undefined ? {} : { reason }),
  };
}

const runPath = (runId: string) => `/v1/runs/${encodeURIComponent(runId)}`;
const proxyPath = (request: { port: number; path: string }) =>
  `/v1/ports/${request.port}${request.path}`;

async function harnessJson(
  endpoint: HarnessEndpoint,
  request: HarnessRequest,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const answer = await harnessRequest(endpoint, request, signal);
  const body: unknown = await answer.json(1024 * 1024).catch(() => undefined);
  const record = isRecord(body) ? body : {};
  if (answer.status >= 200 && answer.status < 300) return record;
  throw refusal(answer.status, record, request.path);
}

/** `{"error":{"code","message"}}` of harnessd as one of our errors. */
function refusal(status: number, body: Record<string, unknown>, path: string): DecoError {
  const error = isRecord(body["error"]) ? body["error"] : {};
  const said = typeof error["message"] === "string" ? error["message"] : `status ${status}`;
  const harnessCode = typeof error["code"] === "string" ? error["code"] : undefined;
  const extensions = { status, ...(harnessCode === undefined ? {} : { harnessCode }) };
  const detail = `harnessd refused ${path}: ${said}`;
  if (harnessCode === "harness_missing") return new DecoError(harnessCode, said, { extensions });
  if (harnessCode === "unknown_harness") return new DecoError(harnessCode, said, { extensions });
  if (status === 404) return new DecoError("run_not_found", detail, { extensions });
  if (status === 409) return new DecoError("run_not_waiting", detail, { extensions });
  if (status === 502 || status === 503) {
    return new DecoError("harness_unreachable", detail, { extensions });
  }
  return new DecoError("harness_failed", detail, { extensions });
}

async function findRuns(
  endpoint: HarnessEndpoint,
  clientRunId: string,
  signal: AbortSignal,
): Promise<HarnessRunList> {
  const path = `/v1/runs?client_run_id=${encodeURIComponent(clientRunId)}`;
  const answer = await harnessRequest(endpoint, { path }, signal);
  const body: unknown = await answer.json(64 * 1024 * 1024).catch(() => undefined);
  if (answer.status !== 200 || !isRecord(body)) return { byName: false, runs: [] };
  const listed: unknown[] = Array.isArray(body["runs"]) ? body["runs"] : [];
  const runs = listed.filter(isRecord).flatMap(({ id, status, prompt }) => {
    if (typeof id !== "string" || typeof status !== "string") return [];
    return [{ id, status, prompt: typeof prompt === "string" ? prompt : "" }];
  });
  return { byName: body["client_run_id"] === clientRunId, runs };
}

async function readAdapters(
  endpoint: HarnessEndpoint,
  signal: AbortSignal,
): Promise<HarnessAdapter[]> {
  const answer = await harnessRequest(endpoint, { path: "/v1/harnesses" }, signal);
  const body: unknown = await answer.json(1024 * 1024).catch(() => undefined);
  if (answer.status === 404) return [];
  const list = isRecord(body) ? body["harnesses"] : body;
  if (answer.status !== 200 || !Array.isArray(list)) {
    throw refusal(answer.status, isRecord(body) ? body : {}, "/v1/harnesses");
  }
  return list.filter(isAdapter);
}

function isAdapter(value: unknown): value is HarnessAdapter {
  return (
    isRecord(value) && typeof value["name"] === "string" && typeof value["available"] === "boolean"
  );
}

function readRunState(runId: string, body: Record<string, unknown>): HarnessRunState {
  const { status, output, error } = body;
  if (typeof status !== "string") {
    throw new DecoError("harness_failed", `harnessd told no status of run ${runId}`);
  }
  return {
    id: runId,
    status,
    ...(typeof output === "string" ? { output } : {}),
    ...(typeof error === "string" ? { error } : {}),
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
