import { z } from "zod";
import { sseResponse } from "../../net/sse-write.ts";
import { DecoError } from "../../protocol/errors.ts";
import { CreateRun } from "../../protocol/messages.ts";
import type { HubContext } from "../hub-context.ts";
import { noBody, type Route, type RouteInput, route } from "../route.ts";
import { aheadError } from "../run-log.ts";
import { runView } from "../run-view.ts";
import { DispatchedSchema, RunViewSchema } from "../schemas.ts";
import type { RunRow } from "../store/runs.ts";

const PAGE = { usual: 50, most: 500 } as const;
const Answered = z.object({ runId: z.string(), status: z.string() });

/** Dispatch, look, cancel. */
export function runRoutes(hub: HubContext): Route[] {
  return [
    createRoute(hub),
    ...readRoutes(hub),
    eventsRoute(hub),
    cancelRoute(hub),
    ...answerRoutes(hub),
  ];
}

function createRoute({ dispatcher }: HubContext): Route {
  return route(
    {
      method: "POST",
      path: "/api/runs",
      summary: "Dispatch a run to a link",
      auth: "user",
      body: CreateRun,
      maxBodyBytes: 10 * 1024 * 1024,
      headers: {
        "Idempotency-Key": "Makes a repeated request give the first one's run, for 24 h",
      },
      answers: {
        202: { description: "Stored, and sent or about to be", schema: DispatchedSchema },
      },
      errors: [
        "unknown_harness",
        "link_not_found",
        "link_offline",
        "capability_missing",
        "link_busy",
        "policy_denied",
        "isolation_unavailable",
        "thread_pinned",
        "idempotency_key_reused",
      ],
    },
    async ({ c, user, body }) => {
      const key = c.req.header("idempotency-key");
      if (key !== undefined && !/^[\x21-\x7e]{1,255}$/.test(key)) {
        throw new DecoError("invalid_request", "Idempotency-Key: 1 to 255 printable characters");
      }
      const idempotency = key === undefined ? undefined : { key, path: "/api/runs" };
      const run = await dispatcher.create({ user, body, idempotency, signal: c.req.raw.signal });
      return c.json(run, 202);
    },
  );
}

function readRoutes(hub: HubContext): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/api/runs",
        summary: "Your runs, newest first",
        auth: "user",
        body: noBody,
        query: {
          limit: "1 to 500, 50 when absent",
          before: "Unix ms: only runs that were created before",
        },
        answers: {
          200: {
            description: "A page of runs",
            schema: z.object({ runs: z.array(RunViewSchema) }),
          },
        },
        errors: ["invalid_request"],
      },
      ({ c, user }) => {
        const limit = whole(c.req.query("limit"), "limit") ?? PAGE.usual;
        const before = whole(c.req.query("before"), "before") ?? Number.MAX_SAFE_INTEGER;
        const rows = hub.store.runs.list(user, Math.max(1, Math.min(limit, PAGE.most)), before);
        return c.json({ runs: rows.map((run) => runView(run, { listed: true })) });
      },
    ),
    route(
      {
        method: "GET",
        path: "/api/runs/:id",
        summary: "One run: state, timings per stage, target, receipt",
        auth: "user",
        body: noBody,
        answers: { 200: { description: "The run", schema: RunViewSchema } },
        errors: ["run_not_found"],
      },
      (input) => input.c.json(runView(runOf(hub, input))),
    ),
  ];
}

function cancelRoute(hub: HubContext): Route {
  return route(
    {
      method: "POST",
      path: "/api/runs/:id/cancel",
      summary: "Cancel a run; delivered when its link is back",
      auth: "user",
      body: z.strictObject({}),
      optionalBody: true,
      answers: { 202: { description: "Taken down for good", schema: Answered } },
      errors: ["run_not_found"],
    },
    (input) => {
      const { runId, status } = hub.dispatcher.cancel(runOf(hub, input));
      return input.c.json({ runId, status }, 202);
    },
  );
}

function eventsRoute(hub: HubContext): Route {
  return route(
    {
      method: "GET",
      path: "/api/runs/:id/events",
      summary: "A run's events as they come, from the first or behind Last-Event-ID",
      auth: "user",
      body: noBody,
      query: { after: "Resume behind this number; Last-Event-ID wins" },
      headers: { "Last-Event-ID": "Resume behind this number" },
      answers: {
        200: {
          description: "Server-sent events up to the terminal one",
          type: "text/event-stream",
        },
      },
      errors: ["run_not_found", "seq_ahead"],
    },
    (input) => {
      const { c } = input;
      const run = runOf(hub, input);
      const last = c.req.header("last-event-id") || undefined;
      const after = whole(last ?? c.req.query("after"), "Last-Event-ID") ?? 0;
      if (after > run.lastSeq) throw aheadError(after, run.lastSeq);
      const signal = AbortSignal.any([c.req.raw.signal, hub.closing]);
      const events = hub.runLog.follow(run.runId, after, signal);
      return sseResponse({ signal, events, pingMs: hub.pingMs });
    },
  );
}

const Input = z.strictObject({ text: z.string().max(1024 * 1024) });
const Decision = z.strictObject({
  callId: z.string().min(1).max(255).optional(),
  reason: z
    .string()
    .max(64 * 1024)
    .optional(),
});

function answerRoutes(hub: HubContext): Route[] {
  const common = {
    method: "POST",
    auth: "user",
    body: noBody,
    maxBodyBytes: 2 * 1024 * 1024,
    answers: { 202: { description: "The daemon took it", schema: Answered } },
    errors: ["run_not_found", "run_not_waiting", "link_offline"],
  } as const;
  const answer = async (verb: "input" | "approve" | "deny", input: RouteInput<object>) => {
    const run = runOf(hub, input);
    await hub.dispatcher.answer(run, verb, { ...input.body }, input.c.req.raw.signal);
    return input.c.json({ runId: run.runId, status: run.status }, 202);
  };
  return [
    route(
      {
        ...common,
        path: "/api/runs/:id/input",
        summary: "Give a waiting run its answer",
        body: Input,
      },
      (input) => answer("input", input),
    ),
    route(
      {
        ...common,
        path: "/api/runs/:id/approve",
        summary: "Allow the tool call that waits",
        body: Decision,
        optionalBody: true,
      },
      (input) => answer("approve", input),
    ),
    route(
      {
        ...common,
        path: "/api/runs/:id/deny",
        summary: "Refuse the tool call that waits",
        body: Decision,
        optionalBody: true,
      },
      (input) => answer("deny", input),
    ),
  ];
}

/** Another user's run is not found, like one that never was. */
export function runOf(
  { store }: HubContext,
  { c, user }: Pick<RouteInput<unknown>, "c" | "user">,
): RunRow {
  const run = store.runs.get(c.req.param("id") ?? "");
  if (run?.user !== user) throw new DecoError("run_not_found", "no such run");
  return run;
}

function whole(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[0-9]{1,15}$/.test(text))
    throw new DecoError("invalid_request", `${name} must be a whole number`);
  return Number(text);
}
