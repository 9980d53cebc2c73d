import { describe, expect, test } from "bun:test";
import type { Journal } from "../../src/daemon/journal.ts";
import { readSse } from "../../src/net/sse-read.ts";
import { CHAIN_START, nextChain } from "../../src/protocol/chain.ts";
import type { SseFrame } from "../../src/protocol/sse.ts";
import {
  type ControlPlane,
  controlPlane,
  read,
  type WireRequest,
} from "../support/control-plane.ts";

const json = { "content-type": "application/json" };

describe.each(["tcp", "tunnel", "socket"] as const)("through %s", (through) => {
  const ask = (plane: ControlPlane, request: WireRequest) =>
    plane.send(through, through === "socket" ? request : plane.sign(request));

  test("events come as the very bytes that were journaled, and the stream ends with the run", async () => {
    await using plane = await controlPlane();
    fill(plane.journal, 3, true);
    const answer = await ask(plane, events("?attempt=1"));
    expect(answer.headers.get("content-type")).toStartWith("text/event-stream");
    const frames = await all(answer);
    const rows = plane.journal.read("run_1", 1, 0);
    expect(frames.map(({ id, event, data }) => ({ id, event, data }))).toEqual(
      rows.map(({ seq, type, data }) => ({ id: String(seq), event: type, data })),
    );
    expect(frames.at(-1)?.event).toBe("run.completed");
  });

  test("resuming goes on behind the number, by header or by query", async () => {
    await using plane = await controlPlane();
    fill(plane.journal, 3, true);
    const byHeader = { ...events(), headers: { "last-event-id": "2" } };
    expect((await all(await ask(plane, byHeader))).map(({ id }) => id)).toEqual(["3", "4"]);
    const byQuery = await all(await ask(plane, events("?after=3")));
    expect(byQuery.map(({ id }) => id)).toEqual(["4"]);
  });

  test("at the end of a finished run it answers and closes (LESSONS 24)", async () => {
    await using plane = await controlPlane();
    fill(plane.journal, 1, true);
    expect(await all(await ask(plane, events("?after=2")))).toEqual([]);
  });

  test("at the end of a live run it waits for the next event", async () => {
    await using plane = await controlPlane();
    fill(plane.journal, 2, false);
    const frames = readSse(await ask(plane, events("?after=2")))[Symbol.asyncIterator]();
    const next = frames.next();
    plane.journal.append("run_1", 1, [{ type: "run.completed", payload: { output: "" } }]);
    expect((await next).value).toMatchObject({ id: "3", event: "run.completed" });
    expect((await frames.next()).done).toBe(true);
  });

  test("beyond the end is 409 seq_ahead", async () => {
    await using plane = await controlPlane();
    fill(plane.journal, 2, true);
    const answer = await read(await ask(plane, events("?after=9")));
    expect(answer).toMatchObject({ status: 409, json: { code: "seq_ahead" } });
  });

  test("what was acknowledged is gone: 410 with the first number that is left", async () => {
    await using plane = await controlPlane();
    fill(plane.journal, 3, false);
    const acked = await read(await ask(plane, ack(2, chainOf(plane.journal, 2))));
    expect(acked).toMatchObject({ status: 200, json: { firstSeq: 3, lastSeq: 3 } });
    const answer = await read(await ask(plane, events()));
    expect(answer).toMatchObject({
      status: 410,
      json: { code: "events_truncated", firstSeq: 3 },
    });
  });

  test("another chain truncates nothing", async () => {
    await using plane = await controlPlane();
    fill(plane.journal, 2, false);
    const answer = await read(await ask(plane, ack(2, "f".repeat(64))));
    expect(answer).toMatchObject({ status: 409, json: { code: "chain_mismatch" } });
    expect(plane.journal.state("run_1")).toMatchObject({ firstSeq: 1 });
  });

  test.each([
    ["a negative number", "?after=-1"],
    ["a word", "?after=last"],
    ["another notation", "?after=0x1"],
    ["an exponent", "?after=1e0"],
    ["nothing", "?after="],
    ["an attempt of zero", "?attempt=0"],
  ])("%s in the query is 400", async (_what, query) => {
    await using plane = await controlPlane();
    fill(plane.journal, 1, true);
    const answer = await read(await ask(plane, events(query)));
    expect(answer).toMatchObject({ status: 400, json: { code: "invalid_request" } });
  });

  test("an attempt that never was is an unknown run", async () => {
    await using plane = await controlPlane();
    fill(plane.journal, 1, true);
    const answer = await read(await ask(plane, events("?attempt=2")));
    expect(answer).toMatchObject({ status: 404, json: { code: "run_not_found" } });
  });

  test("a run is listed and shown with its numbers", async () => {
    await using plane = await controlPlane();
    fill(plane.journal, 1, true);
    const state = { runId: "run_1", attempt: 1, status: "completed", firstSeq: 1, lastSeq: 2 };
    const list = await read(await ask(plane, { method: "GET", path: "/v1/runs" }));
    expect(list.json).toEqual({ runs: [state] });
    const one = await read(await ask(plane, { method: "GET", path: "/v1/runs/run_1" }));
    expect(one.json).toEqual(state);
  });

  test("cancel is 202 and durable, for a run that has ended or was never seen, too", async () => {
    await using plane = await controlPlane();
    fill(plane.journal, 1, true);
    for (const run of ["run_1", "run_unseen"]) {
      const answer = await read(await ask(plane, post(run, "cancel", { attempt: 1 })));
      expect(answer.status).toBe(202);
    }
    const body = { runId: "run_unseen", attempt: 1, harness: "shell", prompt: "x" };
    const dispatched = await read(
      await ask(plane, {
        method: "POST",
        path: "/v1/runs",
        headers: json,
        body: JSON.stringify(body),
      }),
    );
    expect(dispatched).toMatchObject({ status: 202, json: { status: "cancelled" } });
  });

  test.each(["input", "approve", "deny"])(
    "%s to a run that waits for nothing is 409",
    async (verb) => {
      await using plane = await controlPlane();
      fill(plane.journal, 1, true);
      const body = { attempt: 1, ...(verb === "input" ? { text: "hi" } : {}) };
      const answer = await read(await ask(plane, post("run_1", verb, body)));
      expect(answer).toMatchObject({ status: 409, json: { code: "run_not_waiting" } });
      const unknown = await read(await ask(plane, post("run_x", verb, body)));
      expect(unknown).toMatchObject({ status: 404, json: { code: "run_not_found" } });
    },
  );
});

test.each(["tcp", "tunnel"] as const)(
  "a reader that leaves through %s ends its stream in the daemon, too",
  async (through) => {
    await using plane = await controlPlane();
    fill(plane.journal, 1, false);
    const leave = new AbortController();
    const request = plane.sign({ ...events("?after=1"), signal: leave.signal });
    const answer = await plane.send(through, request);
    expect(answer.status).toBe(200);
    const reading = read(answer);
    while (plane.followers() === 0) await healthz(plane);
    leave.abort();
    await expect(reading).rejects.toThrow();
    while (plane.followers() > 0) await healthz(plane);
  },
);

async function healthz(plane: ControlPlane): Promise<void> {
  await read(await plane.send("tcp", { method: "GET", path: "/healthz" }));
}

function events(query = ""): WireRequest {
  return { method: "GET", path: `/v1/runs/run_1/events${query}` };
}

function post(runId: string, verb: string, body: object): WireRequest {
  const path = `/v1/runs/${runId}/${verb}`;
  return { method: "POST", path, headers: json, body: JSON.stringify(body) };
}

function ack(seq: number, chain: string): WireRequest {
  return post("run_1", "ack", { attempt: 1, seq, chain });
}

async function all(answer: Awaited<ReturnType<ControlPlane["send"]>>): Promise<SseFrame[]> {
  const frames: SseFrame[] = [];
  for await (const frame of readSse(answer)) frames.push(frame);
  return frames;
}

/** A run with so many deltas (text with characters that SSE and UTF-8 could tear), ended or not. */
function fill(journal: Journal, deltas: number, ended: boolean): void {
  journal.createRun({ runId: "run_1", attempt: 1, harness: "shell", prompt: "x" });
  const payload = { content: "é\n\u2028 data: x\r\n" };
  const drafts = Array.from({ length: deltas }, () => ({
    type: "assistant.message.delta" as const,
    payload,
  }));
  journal.append("run_1", 1, drafts);
  if (ended) journal.append("run_1", 1, [{ type: "run.completed", payload: { output: "" } }]);
}

function chainOf(journal: Journal, upTo: number): string {
  return journal
    .read("run_1", 1, 0)
    .filter(({ seq }) => seq <= upTo)
    .reduce((chain, { data }) => nextChain(chain, data), CHAIN_START);
}
