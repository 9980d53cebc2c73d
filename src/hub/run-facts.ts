import { z } from "zod";
import { nextStatus } from "../protocol/next-status.ts";
import { type RunStatus, terminalStatus } from "../protocol/run-events.ts";

const Payload = z.record(z.string(), z.unknown());

/** What a run's events told, folded once, here. Times are Unix ms of the hub's clock. */
export const RunFacts = z.object({
  dispatchedAt: z.number().optional(),
  acceptedAt: z.number().optional(),
  startedAt: z.number().optional(),
  sandboxReadyAt: z.number().optional(),
  firstHarnessEventAt: z.number().optional(),
  endedAt: z.number().optional(),
  /** `sandbox.ready`'s own measurement. */
  sandbox: Payload.optional(),
  /** The terminal event's payload. */
  result: Payload.optional(),
  promptSha256: z.string().optional(),
});
export type RunFacts = Readonly<z.infer<typeof RunFacts>>;

export interface FoldedRun {
  readonly status: RunStatus;
  readonly facts: RunFacts;
}

/** Takes one event into what is known of the run. A later event never undoes an end. */
export function foldEvent(
  run: FoldedRun,
  event: { readonly type: string; readonly payload: Readonly<Record<string, unknown>> },
  at: number,
): FoldedRun {
  const { type, payload } = event;
  const ended = terminalStatus(type);
  if (ended !== undefined)
    return { status: ended, facts: { ...run.facts, endedAt: at, result: payload } };
  const facts = foldFacts(run.facts, type, payload, at);
  return { status: nextStatus(run.status, event), facts };
}

function foldFacts(
  facts: RunFacts,
  type: string,
  payload: Readonly<Record<string, unknown>>,
  at: number,
): RunFacts {
  if (type === "run.started") {
    const digest = payload["promptSha256"] ?? payload["promptDigest"];
    return {
      ...facts,
      startedAt: at,
      ...(typeof digest === "string" ? { promptSha256: digest } : {}),
    };
  }
  if (type === "sandbox.ready") return { ...facts, sandboxReadyAt: at, sandbox: payload };
  const fromHarness = type.startsWith("assistant.") || type.startsWith("tool.");
  return fromHarness && facts.firstHarnessEventAt === undefined
    ? { ...facts, firstHarnessEventAt: at }
    : facts;
}
