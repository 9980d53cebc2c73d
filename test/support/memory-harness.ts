import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";
import { SseDecoder } from "../../src/protocol/sse.ts";

const captures = join(import.meta.dir, "../data/harnessd");
const TERMINAL = new Set(["run.completed", "run.failed", "run.cancelled"]);
const WAITS = new Set(["run.waiting_for_user", "tool.approval_required"]);

export interface ScriptedEvent {
  readonly type: string;
  readonly payload: Record<string, unknown>;
}

interface ScriptedRun {
  readonly id: string;
  readonly body: Record<string, unknown>;
  readonly log: ScriptedEvent[];
  readonly readers: Set<() => void>;
  /** What is said after the user's answer. */
  rest: ScriptedEvent[];
  cancels: number;
}

/**
 * A harnessd over real HTTP whose agent does what the prompt says: `replay:<capture>`, `events:<json>`,
 * `hang`, `stubborn` (takes no cancel), `flood:<n>`, `drops:<n>`. Captures come from the public Go program.
 */
export class MemoryHarness implements AsyncDisposable {
  readonly token = randomUUID();
  readonly runs = new Map<string, ScriptedRun>();
  readonly decisions: { verb: string; body: unknown }[] = [];
  /** Cuts each event stream behind so many events. */
  dropAfter = Number.POSITIVE_INFINITY;
  streams = 0;
  /** Whether it takes `client_run_id` and acks, as ours does and the Go program does not. */
  knowsNames = true;
  /** The newest ack of each run. */
  readonly acks = new Map<string, number>();
  url = "";
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy());
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("no TCP address");
    this.url = `http://127.0.0.1:${address.port}`;
    return this;
  }

  /** Runs that have not ended: what a look into the process table would find. */
  get processes(): number {
    return [...this.runs.values()].filter((run) => !hasEnded(run)).length;
  }

  kill(): void {
    for (const run of this.runs.values()) {
      if (!hasEnded(run)) say(run, [{ type: "run.failed", payload: { error: "killed" } }]);
    }
  }

  /** Adds to the newest run's log. */
  emit(type: string, payload: Record<string, unknown> = {}): void {
    const run = [...this.runs.values()].at(-1);
    if (run) say(run, [{ type, payload }]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = "", query = ""] = (request.url ?? "").split("?");
    const [, , , id = "", verb = ""] = path.split("/");
    if (path === "/healthz") return json(response, 200, { status: "ok" });
    if (request.headers.authorization !== `Bearer ${this.token}`) {
      return json(response, 401, { error: { code: "unauthorized", message: "no token" } });
    }
    if (request.method === "POST" && path === "/v1/runs") {
      const body = await readJson(request);
      const run = (this.knowsNames && this.#named(body["client_run_id"])) || this.#create(body);
      return json(response, 202, { run_id: run.id, status: "queued" });
    }
    if (request.method === "GET" && path === "/v1/runs") {
      const name = new URLSearchParams(query).get("client_run_id");
      const named = this.#named(name);
      const found = this.knowsNames ? (named ? [named] : []) : [...this.runs.values()];
      const runs = found.map((run) => ({
        id: run.id,
        status: statusOf(run),
        prompt: run.body["prompt"],
      }));
      return json(response, 200, this.knowsNames ? { client_run_id: name, runs } : { runs });
    }
    const run = this.runs.get(id);
    if (!run) return json(response, 404, { error: { code: "not_found", message: "no run" } });
    if (verb === "events") return this.#stream(run, request, response, query);
    if (verb === "ack") {
      if (!this.knowsNames) return json(response, 404, { error: { code: "not_found" } });
      const { seq } = await readJson(request);
      this.acks.set(id, Number(seq));
      return json(response, 200, { acked_seq: seq, first_seq: 0 });
    }
    if (request.method === "GET") return json(response, 200, { id, status: statusOf(run) });
    return this.#act(run, verb, await readJson(request), response);
  }

  #named(name: unknown): ScriptedRun | undefined {
    return [...this.runs.values()].find((run) => run.body["client_run_id"] === name);
  }

  #create(body: Record<string, unknown>): ScriptedRun {
    const run: ScriptedRun = {
      id: `run_${randomUUID()}`,
      body,
      log: [],
      readers: new Set(),
      rest: [],
      cancels: 0,
    };
    this.runs.set(run.id, run);
    say(run, scriptOf(String(body["prompt"])));
    return run;
  }

  #act(run: ScriptedRun, verb: string, body: unknown, response: ServerResponse): void {
    if (verb === "cancel") {
      run.cancels += 1;
      if (run.body["prompt"] !== "stubborn" && !hasEnded(run)) {
        say(run, [{ type: "run.cancelled", payload: {} }]);
      }
      return json(response, 200, { status: "cancelling" });
    }
    this.decisions.push({ verb, body });
    const { rest } = run;
    run.rest = [];
    say(run, rest);
    json(response, 200, { status: "accepted" });
  }

  #stream(run: ScriptedRun, request: IncomingMessage, response: ServerResponse, query: string) {
    this.streams += 1;
    const last = request.headers["last-event-id"] ?? new URLSearchParams(query).get("after") ?? "";
    const behind = /:(\d+)$/.exec(String(last))?.[1];
    let next = behind === undefined ? 0 : Number(behind) + 1;
    const until = next + this.dropAfter;
    // The Go program sends its headers only with the first event, and no heartbeats (LESSONS 24).
    const pump = () => {
      while (next < run.log.length && !response.destroyed) {
        if (next >= until) {
          response.write("", () => response.destroy());
          return;
        }
        if (!response.headersSent) response.writeHead(200, { "content-type": "text/event-stream" });
        const event = run.log[next];
        if (event) response.write(frame(run.id, next, event));
        next += 1;
        if (event && TERMINAL.has(event.type)) response.end();
      }
    };
    run.readers.add(pump);
    response.on("close", () => run.readers.delete(pump));
    pump();
  }
}

function scriptOf(prompt: string): ScriptedEvent[] {
  const started = { type: "run.started", payload: { prompt } };
  const [kind, rest] = split(prompt);
  if (kind === "replay") return readCapture(rest);
  if (kind === "events") {
    const events: ScriptedEvent[] = JSON.parse(rest);
    return [started, ...events];
  }
  const ready = { type: "assistant.message.delta", payload: { content: "ready" } };
  if (kind !== "flood" && kind !== "drops") return [started, ready];
  const lines = Array.from({ length: Number(rest) }, (_, index) => ({
    type: "tool.output.delta",
    // Of two streams by turns, or all of one, which may be merged.
    payload: { content: `line ${index}\n`, stream: kind === "flood" ? index % 2 : 0 },
  }));
  return [started, ...lines, { type: "run.completed", payload: { output: "done", exitCode: 0 } }];
}

function split(prompt: string): [string, string] {
  const colon = prompt.indexOf(":");
  return colon < 0 ? [prompt, ""] : [prompt.slice(0, colon), prompt.slice(colon + 1)];
}

/** The events of a recorded stream of the Go program. */
export function readCapture(name: string): ScriptedEvent[] {
  const bytes = readFileSync(join(captures, `${name}.sse`));
  return new SseDecoder().push(bytes).map(({ data }) => {
    const { type, payload }: ScriptedEvent = JSON.parse(data);
    return { type, payload };
  });
}

/** Adds events up to the first one that waits for an answer. */
function say(run: ScriptedRun, events: readonly ScriptedEvent[]): void {
  const waits = events.findIndex((event) => WAITS.has(event.type));
  const now = waits < 0 ? events : events.slice(0, waits + 1);
  run.rest = waits < 0 ? run.rest : events.slice(waits + 1);
  run.log.push(...now);
  for (const wake of run.readers) wake();
}

function hasEnded(run: ScriptedRun): boolean {
  return TERMINAL.has(run.log.at(-1)?.type ?? "");
}

function statusOf(run: ScriptedRun): string {
  return hasEnded(run) ? String(run.log.at(-1)?.type.slice(4)) : "running";
}

function frame(runId: string, seq: number, { type, payload }: ScriptedEvent): string {
  const id = `${runId}:${seq}`;
  const timestamp = new Date().toISOString();
  const data = JSON.stringify({ id, run_id: runId, type, timestamp, payload });
  return `id: ${id}\nretry: 3000\nevent: ${type}\ndata: ${data}\n\n`;
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return text === "" ? {} : JSON.parse(text);
}
