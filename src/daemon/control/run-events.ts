import { z } from "zod";
import { sseResponse } from "../../net/sse-write.ts";
import { DecoError } from "../../protocol/errors.ts";
import { isEnded, terminalStatus } from "../../protocol/run-events.ts";
import type { SseFrame } from "../../protocol/sse.ts";
import type { Journal } from "../journal.ts";
import { parseWith } from "./answers.ts";

/** Rows read from the journal at a time. */
const BATCH = 200;

/** Digits alone: no sign, no exponent, no other notation. */
const Whole = z
  .string()
  .regex(/^[0-9]{1,15}$/)
  .transform(Number);

const Query = z.object({
  attempt: Whole.pipe(z.int().min(1)).optional(),
  after: Whole.optional(),
});

/**
 * The log of one attempt as SSE, from behind `Last-Event-ID` (or `?after=`). Data goes out as the
 * very bytes that were journaled: the chain is over them.
 *
 * @throws DecoError `run_not_found`, `seq_ahead`, `events_truncated` (with `firstSeq`)
 * @see PROTOCOL.md, section "Run events"
 */
export function runEvents(
  journal: Pick<Journal, "state" | "read" | "waitFor">,
  runId: string,
  request: Request,
): Response {
  const { attempt: asked, after } = place(request);
  const state = journal.state(runId, asked);
  if (state === undefined) throw new DecoError("run_not_found", `no run ${runId} here`);
  const { attempt } = state;
  // Reads once before the head goes out: what can't be resumed is an answer, not a broken stream.
  journal.read(runId, attempt, after, 1);
  const { signal } = request;
  return sseResponse({ signal, events: follow(journal, { runId, attempt, after, signal }) });
}

function place(request: Request): { attempt: number | undefined; after: number } {
  const { searchParams } = new URL(request.url);
  const lastEventId = request.headers.get("last-event-id") || null;
  const query = parseWith(
    Query,
    {
      attempt: searchParams.get("attempt") ?? undefined,
      after: lastEventId ?? searchParams.get("after") ?? undefined,
    },
    lastEventId === null ? "query" : "Last-Event-ID",
  );
  return { attempt: query.attempt, after: query.after ?? 0 };
}

async function* follow(
  journal: Pick<Journal, "state" | "read" | "waitFor">,
  o: { runId: string; attempt: number; after: number; signal: AbortSignal },
): AsyncGenerator<SseFrame> {
  const { runId, attempt, signal } = o;
  for (let after = o.after; !signal.aborted; ) {
    const rows = journal.read(runId, attempt, after, BATCH);
    for (const row of rows) {
      yield { id: String(row.seq), event: row.type, data: row.data };
      after = row.seq;
      if (terminalStatus(row.type) !== undefined) return;
    }
    if (rows.length > 0) continue;
    const state = journal.state(runId, attempt);
    if (state === undefined || (isEnded(state.status) && after >= state.lastSeq)) return;
    await journal.waitFor(runId, attempt, after, signal);
  }
}
