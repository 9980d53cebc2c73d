import type { IncomingMessage, ServerResponse } from "node:http";
import { type Context, Hono } from "hono";
import type { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import { isEnded } from "../protocol/run-events.ts";
import type { Adapter } from "./adapters/adapter.ts";
import type { Authorize, TokenCheck } from "./auth.ts";
import { streamEvents } from "./event-stream.ts";
import { proxyRequest } from "./port-proxy.ts";
import { NewToken, RunAck, RunRequest } from "./requests.ts";
import { runView, summaryView } from "./run-view.ts";
import type { Run, Runs } from "./runs.ts";
import { unpack } from "./unpack.ts";

/** What node-server hands to a route: node's own request and response. */
export interface NodeBindings {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
}

export interface AppOptions {
  readonly runs: Runs;
  readonly adapters: readonly Adapter[];
  readonly authorize: Authorize;
  /** Takes the token that counts from now on; absent: it can't be exchanged. */
  readonly replace?: TokenCheck["replace"];
  /** Where archives are unpacked. */
  readonly workspace: string;
  readonly pingMs?: number;
}

type Harnessd = Hono<{ Bindings: NodeBindings }>;
type Ctx = Context<{ Bindings: NodeBindings }>;

const MAX_BODY_BYTES = 16 * 1024 * 1024;

/** The HTTP interface of harnessd. */
export function createApp(options: AppOptions): Harnessd {
  const app: Harnessd = new Hono();
  app.get("/healthz", (c) => c.json({ status: "ok" }));
  app.use(async (c, next) => {
    if (options.authorize(c.env.incoming.headers)) return next();
    return failure(401, "unauthorized", "no valid bearer token");
  });
  app.get("/v1/harnesses", async (c) => {
    const harnesses = await Promise.all(options.adapters.map((one) => one.availability()));
    return c.json({ harnesses });
  });
  addRuns(app, options);
  addToken(app, options);
  app.put("/v1/archive", async (c) => {
    const keep = c.req.query("keep") === "1";
    // Not destroyed when a bad member ends the reading: the answer says which it was.
    const body = c.env.incoming.iterator({ destroyOnReturn: false });
    return c.json(await unpack(options.workspace, body, { keep }));
  });
  app.all("/v1/ports/:port{[0-9]+}", ports);
  app.all("/v1/ports/:port{[0-9]+}/*", ports);
  app.notFound((c) => failure(404, "not_found", `no route for ${c.req.method} ${c.req.path}`));
  app.onError((error) => {
    const known = DecoError.from(error);
    return failure(known.info.status, known.code, known.message);
  });
  return app;
}

function addRuns(app: Harnessd, { runs, pingMs }: AppOptions): void {
  app.post("/v1/runs", async (c) => {
    const run = await runs.create(parse(RunRequest, await readJson(c)));
    return c.json({ run_id: run.record.id, status: run.state.status }, 202);
  });
  app.get("/v1/runs", (c) => {
    const name = c.req.query("client_run_id");
    if (name === undefined) return c.json({ runs: runs.list().map(runView) });
    const found = runs.findByClientId(name);
    // Repeated, so that a caller sees that its question was understood.
    return c.json({ client_run_id: name, runs: found ? [runView(found)] : [] });
  });
  app.get("/v1/runs/:id", (c) => c.json(runView(find(runs, c))));
  app.get("/v1/runs/:id/summary", (c) => {
    const run = find(runs, c);
    if (isEnded(run.state.status)) return c.json(summaryView(run));
    const message = `run "${run.record.id}" is still ${run.state.status}`;
    return failure(409, "run_not_finished", message);
  });
  app.get("/v1/runs/:id/events", (c) => {
    const { record, log } = find(runs, c);
    const after = readAfter(c, record.id);
    if (after > log.lastSeq) {
      return failure(409, "seq_ahead", `the last event is ${log.lastSeq}, not ${after}`);
    }
    if (after + 1 < log.firstSeq) {
      return failure(410, "events_truncated", `the first event is ${log.firstSeq}`);
    }
    const response = c.env.outgoing;
    const ping = pingMs === undefined ? {} : { pingMs };
    void streamEvents({ runId: record.id, log, after, response, ...ping });
    return answeredByNode();
  });
  app.post("/v1/runs/:id/ack", async (c) => {
    const { log } = find(runs, c);
    const { seq } = parse(RunAck, await readJson(c));
    await log.ack(seq);
    return c.json({ acked_seq: seq, first_seq: log.firstSeq });
  });
  app.post("/v1/runs/:id/cancel", (c) => {
    const run = find(runs, c);
    run.active?.cancel();
    return c.json({ status: run.active ? "cancelling" : run.state.status });
  });
  for (const action of ["input", "steer", "continue", "approve", "deny"]) {
    app.post(`/v1/runs/:id/${action}`, (c) => {
      const { record } = find(runs, c);
      return failure(409, "run_not_waiting", `run "${record.id}" waits for nothing`);
    });
  }
}

/** For a sandbox that was made ahead: whoever it is for now gets a token that nobody had before. */
function addToken(app: Harnessd, { runs, replace }: AppOptions): void {
  if (replace === undefined) return;
  app.put("/v1/token", async (c) => {
    const { token } = parse(NewToken, await readJson(c));
    if (runs.list().length > 0) {
      return failure(409, "run_conflict", "the token is exchanged before the first run alone");
    }
    replace(token);
    return c.json({ replaced: true });
  });
}

function ports(c: Ctx): Response {
  const { incoming, outgoing } = c.env;
  void proxyRequest(incoming, outgoing);
  return answeredByNode();
}

/** Tells node-server that node's own response is written to directly. */
function answeredByNode(): Response {
  return new Response(null, { headers: { "x-hono-already-sent": "true" } });
}

function find(runs: Runs, c: Ctx): Run {
  const id = c.req.param("id") ?? "";
  const run = runs.get(id);
  if (!run) throw new DecoError("run_not_found", `run "${id}" not found`);
  return run;
}

/** `<run_id>:<seq>` or the number alone; -1 when neither header nor query has one. */
function readAfter(c: Ctx, runId: string): number {
  const given = c.req.header("last-event-id") ?? c.req.query("after") ?? "";
  if (given === "") return -1;
  const text = given.startsWith(`${runId}:`) ? given.slice(runId.length + 1) : given;
  if (/^(-1|\d{1,15})$/.test(text)) return Number(text);
  throw new DecoError("invalid_request", `not an event id of this run: ${given.slice(0, 200)}`);
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = issue?.path.join(".") ?? "";
  const what = issue?.message ?? "not what it takes";
  throw new DecoError("invalid_request", where === "" ? what : `${where}: ${what}`);
}

async function readJson(c: Ctx): Promise<unknown> {
  const parts: Buffer[] = [];
  let length = 0;
  const body: AsyncIterable<Buffer> = c.env.incoming;
  for await (const bytes of body) {
    length += bytes.length;
    if (length > MAX_BODY_BYTES) {
      throw new DecoError("body_too_large", `over ${MAX_BODY_BYTES} bytes`);
    }
    parts.push(bytes);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString("utf8")) as unknown;
  } catch {
    throw new DecoError("invalid_json", "the body is not JSON");
  }
}

function failure(status: number, code: string, message: string): Response {
  return Response.json({ error: { code, message } }, { status });
}
