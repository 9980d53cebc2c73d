import { z } from "zod";
import { encodeSse } from "../../../src/protocol/sse.ts";
import type { Program, World } from "../core/world.ts";
import { type Script, scriptOf, wordOf } from "./script.ts";

const CreateBody = z.looseObject({ prompt: z.string(), client_run_id: z.string() });
const AckBody = z.object({ seq: z.int() });

interface HarnessRun {
  readonly id: string;
  /** The daemon's own name of it. */
  readonly name: string;
  readonly script: Script;
  readonly log: string[];
  readonly readers: Set<ReadableStreamDefaultController<Uint8Array>>;
  ended: string | undefined;
  said: number;
  /** Everything up to here was acknowledged, and is gone. */
  acked: number;
}

/** `ours` starts nothing twice by one name and forgets what is acknowledged; `go` knows neither. */
export type HarnessdKind = "ours" | "go";

/** harnessd in a sandbox, its agent played from a script. Its log stays until the sandbox goes. */
export class Harnessd {
  readonly runs = new Map<string, HarnessRun>();
  readonly #kind: HarnessdKind;
  readonly #world: World;
  readonly #program: Program;

  constructor(world: World, program: Program, kind: HarnessdKind) {
    this.#kind = kind;
    this.#world = world;
    this.#program = program;
  }

  get processes(): number {
    return [...this.runs.values()].filter((run) => run.ended === undefined).length;
  }

  kill(): void {
    for (const run of this.runs.values()) this.#end(run, "failed", { error: "killed" });
  }

  async handle(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const [, , , id = "", verb = ""] = url.pathname.split("/");
    if (id === "") {
      if (request.method === "GET") return this.#list(url.searchParams.get("client_run_id") ?? "");
      return this.#create(CreateBody.parse(await request.json()));
    }
    const run = this.runs.get(id);
    if (run === undefined) return refusal(404, "not_found");
    if (verb === "events") return this.#events(run, request.headers.get("last-event-id"));
    if (verb === "ack") return this.#ack(run, AckBody.parse(await request.json()).seq);
    if (verb === "cancel") {
      if (!run.script.stubborn) this.#end(run, "cancelled", {});
      return Response.json({ status: "cancelling" });
    }
    return Response.json(view(run));
  }

  #list(name: string): Response {
    const runs = [...this.runs.values()];
    if (this.#kind === "go") return Response.json({ runs: runs.map(view) });
    const found = runs.filter((run) => run.name === name);
    return Response.json({ client_run_id: name, runs: found.map(view) });
  }

  #ack(run: HarnessRun, seq: number): Response {
    if (this.#kind === "go") return refusal(404, "not_found");
    run.acked = Math.max(run.acked, seq);
    return Response.json({ acked_seq: seq, first_seq: run.acked + 1 });
  }

  #create({ prompt, client_run_id: name }: z.infer<typeof CreateBody>): Response {
    const known = [...this.runs.values()].find((run) => run.name === name);
    if (known !== undefined && this.#kind === "ours") {
      return Response.json({ run_id: known.id, status: known.ended ?? "running" }, { status: 202 });
    }
    const id = `h${this.runs.size + 1}`;
    const run: HarnessRun = {
      id,
      name,
      script: scriptOf(prompt),
      log: [],
      readers: new Set(),
      ended: undefined,
      said: 0,
      acked: -1,
    };
    this.runs.set(id, run);
    this.#say(run, [["run.started", {}]]);
    this.#later(run);
    return Response.json({ run_id: id, status: "queued" }, { status: 202 });
  }

  #later(run: HarnessRun): void {
    this.#world.schedule(this.#program, run.script.gapMs, () => this.#speak(run), true);
  }

  #speak(run: HarnessRun): void {
    if (run.ended !== undefined) return;
    const { script } = run;
    const events: [string, Record<string, unknown>][] = [];
    for (let i = 0; i < script.burst && run.said < script.events; i += 1) {
      const n = run.said++;
      events.push(["assistant.message.delta", { n, word: wordOf(script, n) }]);
    }
    this.#say(run, events);
    if (run.said < script.events) return this.#later(run);
    if (script.end === "completed") this.#end(run, "completed", { output: "done", exitCode: 0 });
    if (script.end === "failed") this.#end(run, "failed", { error: "it did not work" });
  }

  #end(run: HarnessRun, how: string, payload: Record<string, unknown>): void {
    if (run.ended !== undefined) return;
    run.ended = how;
    this.#say(run, [[`run.${how}`, payload]]);
    for (const reader of run.readers) reader.close();
    run.readers.clear();
  }

  #say(run: HarnessRun, events: readonly [string, Record<string, unknown>][]): void {
    const timestamp = new Date(this.#world.now).toISOString();
    const lines = events.map(([type, payload], i) => {
      const id = `${run.id}:${run.log.length + i}`;
      const data = JSON.stringify({ id, run_id: run.id, type, timestamp, payload });
      return encodeSse({ id, event: type, data });
    });
    run.log.push(...lines);
    if (run.readers.size === 0 || lines.length === 0) return;
    const bytes = Buffer.from(lines.join(""));
    for (const reader of run.readers) reader.enqueue(bytes);
  }

  #events(run: HarnessRun, lastEventId: string | null): Response {
    const after = lastEventId === null ? -1 : Number(lastEventId.split(":")[1]);
    // As ours: the last one that was acknowledged stays, for readers who resume at an end.
    if (after < run.acked - 1) return refusal(410, "events_truncated");
    let own: ReadableStreamDefaultController<Uint8Array> | undefined;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        own = controller;
        const lines = run.log.slice(after + 1);
        if (lines.length > 0) controller.enqueue(Buffer.from(lines.join("")));
        if (run.ended !== undefined) controller.close();
        else run.readers.add(controller);
      },
      cancel: () => {
        if (own !== undefined) run.readers.delete(own);
      },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  }
}

function view(run: HarnessRun) {
  return { id: run.id, status: run.ended ?? "running", prompt: JSON.stringify(run.script) };
}

function refusal(status: number, code: string): Response {
  return Response.json({ error: { code, message: code } }, { status });
}
