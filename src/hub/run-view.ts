import { isEnded } from "../protocol/run-events.ts";
import type { RunFacts } from "./run-facts.ts";
import type { RunRow } from "./store/runs.ts";

/** Lists show only so much of a prompt, in characters. */
const LISTED_PROMPT_CHARS = 200;

/** A run as users see it. */
export function runView(run: RunRow, o: { listed?: boolean } = {}) {
  const { facts } = run;
  const prompt = run.prompt ?? null;
  const receipt = facts.result?.["receipt"];
  return {
    runId: run.runId,
    linkId: run.linkId,
    status: run.status,
    attempt: run.attempt,
    harness: run.harness ?? null,
    prompt: o.listed === true ? (prompt?.slice(0, LISTED_PROMPT_CHARS) ?? null) : prompt,
    thread: run.thread ?? null,
    branch: run.branch ?? null,
    cancelRequested: run.cancelRequested,
    lastSeq: run.lastSeq,
    createdAt: iso(run.createdAt),
    startedAt: isoOrNull(facts.startedAt),
    endedAt: isoOrNull(facts.endedAt),
    timings: timings(run.createdAt, facts),
    target: target(run),
    receipt: isRecord(receipt) ? receipt : null,
    result: isEnded(run.status) ? withoutReceipt(facts.result) : null,
  };
}

/** Ms from the request to each stage, by the hub's clock, and the sandbox's own measurement. */
function timings(createdAt: number, facts: RunFacts): Record<string, number> {
  const stages: Record<string, unknown> = {
    dispatched: since(createdAt, facts.dispatchedAt),
    accepted: since(createdAt, facts.acceptedAt),
    started: since(createdAt, facts.startedAt),
    sandboxReady: since(createdAt, facts.sandboxReadyAt),
    firstHarnessEvent: since(createdAt, facts.firstHarnessEventAt),
    total: since(createdAt, facts.endedAt),
    sandbox: facts.sandbox?.["readyMs"],
  };
  const known = Object.entries(stages).filter(
    (entry): entry is [string, number] => typeof entry[1] === "number",
  );
  return Object.fromEntries(known);
}

function target({ linkId, facts }: RunRow): Record<string, unknown> | null {
  if (facts.sandbox === undefined) return null;
  const { handle, provider, image } = facts.sandbox;
  return { linkId, handle, provider, image };
}

function withoutReceipt(result: RunFacts["result"]): Record<string, unknown> | null {
  if (result === undefined) return null;
  const { receipt: _receipt, ...rest } = result;
  return rest;
}

function since(from: number, to: number | undefined): number | undefined {
  return to === undefined ? undefined : Math.max(0, to - from);
}

function iso(at: number): string {
  return new Date(at).toISOString();
}

function isoOrNull(at: number | undefined): string | null {
  return at === undefined ? null : iso(at);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
