import { type Context, Hono } from "hono";
import { DecoError } from "../../protocol/errors.ts";
import {
  Ack,
  CancelRun,
  DispatchRun,
  HARNESSES,
  RunDecision,
  RunInput,
  type RunState,
} from "../../protocol/messages.ts";
import { OWNERS } from "../../sandbox/owner.ts";
import type { Journal } from "../journal.ts";
import { readJson } from "./answers.ts";
import type { ControlEnv } from "./control-env.ts";
import { runEvents } from "./run-events.ts";

/** What the routes need of the executor; each throws a DecoError with the code to answer. */
export interface RunControl {
  /** Returns after the ledger's commit; the work goes on without the caller. */
  dispatch(body: DispatchRun, o: { local: boolean }): RunState | Promise<RunState>;
  cancel(runId: string, attempt: number): unknown;
  input(runId: string, attempt: number, text: string, signal: AbortSignal): unknown;
  approve(runId: string, attempt: number, decision: Decision, signal: AbortSignal): unknown;
  deny(runId: string, attempt: number, decision: Decision, signal: AbortSignal): unknown;
}

/** @throws policy_denied for a hub that gives itself out as the owner */
function withUser(body: DispatchRun, local: boolean): DispatchRun {
  if (local) return { ...body, user: body.user ?? OWNERS.local };
  if (body.user !== OWNERS.local) return body;
  throw new DecoError(
    "policy_denied",
    `"${OWNERS.local}" is this laptop's own socket, no hub's user`,
  );
}

interface Decision {
  readonly callId?: string;
  readonly reason?: string;
}

export interface RunRoutesOptions {
  readonly journal: Pick<Journal, "state" | "read" | "waitFor" | "list" | "ack">;
  readonly runs: RunControl;
}

/** `/v1/runs…` */
export function runRoutes({ journal, runs }: RunRoutesOptions) {
  return new Hono<{ Bindings: ControlEnv }>()
    .post("/", async (c) => {
      const body = await readJson(c.req.raw, DispatchRun);
      if (!(HARNESSES as readonly string[]).includes(body.harness)) {
        throw new DecoError("unknown_harness", `no harness is called ${body.harness}`);
      }
      const local = c.env.signed !== true;
      return c.json(await runs.dispatch(withUser(body, local), { local }), 202);
    })
    .get("/", (c) => c.json({ runs: journal.list() }))
    .get("/:id", (c) => c.json(known(journal, c)))
    .get("/:id/events", (c) => {
      const answer = runEvents(journal, c.req.param("id"), c.req.raw);
      c.env.markStream?.();
      return answer;
    })
    .post("/:id/ack", async (c) => {
      const ack = await readJson(c.req.raw, Ack);
      known(journal, c, ack.attempt);
      journal.ack(c.req.param("id"), ack);
      return c.json(known(journal, c, ack.attempt));
    })
    .post("/:id/cancel", async (c) => {
      const { attempt } = await readJson(c.req.raw, CancelRun);
      await runs.cancel(c.req.param("id"), attempt);
      return c.json({ runId: c.req.param("id"), attempt, status: "cancelling" }, 202);
    })
    .post("/:id/input", async (c) => {
      const { attempt, text } = await readJson(c.req.raw, RunInput);
      known(journal, c, attempt);
      await runs.input(c.req.param("id"), attempt, text, c.req.raw.signal);
      return c.json(known(journal, c, attempt), 202);
    })
    .post("/:id/:verb{approve|deny}", async (c) => {
      const { attempt, callId, reason } = await readJson(c.req.raw, RunDecision);
      known(journal, c, attempt);
      const decision = {
        ...(callId === undefined ? {} : { callId }),
        ...(reason === undefined ? {} : { reason }),
      };
      if (c.req.param("verb") === "approve") {
        await runs.approve(c.req.param("id"), attempt, decision, c.req.raw.signal);
      } else {
        await runs.deny(c.req.param("id"), attempt, decision, c.req.raw.signal);
      }
      return c.json(known(journal, c, attempt), 202);
    });
}

function known(
  journal: Pick<Journal, "state">,
  c: Context<{ Bindings: ControlEnv }>,
  attempt?: number,
): RunState {
  const runId = c.req.param("id") ?? "";
  const state = journal.state(runId, attempt);
  if (state !== undefined) return state;
  const which = attempt === undefined ? "" : ` with attempt ${attempt}`;
  throw new DecoError("run_not_found", `no run ${runId}${which} here`);
}
