import { describe, expect, test } from "bun:test";
import { createServer } from "node:http";
import { type HarnessEvent, harnessClient } from "../../src/sandbox/harness-client.ts";
import type { HarnessEventsOptions } from "../../src/sandbox/harness-events.ts";
import { type GoHarnessd, goHarnessd } from "../support/go-harnessd.ts";

const signal = AbortSignal.timeout(60_000);

const clientOf = (server: { url: string }) => harnessClient({ url: server.url, token: "token" });

async function collect(server: GoHarnessd, options: HarnessEventsOptions = {}) {
  const events: HarnessEvent[] = [];
  for await (const event of clientOf(server).events(server.runId, options, signal)) {
    events.push(event);
  }
  return events;
}

const numbers = (events: readonly HarnessEvent[]) => events.map(({ seq }) => seq);
const upTo = (count: number, from = 0) => Array.from({ length: count - from }, (_, i) => from + i);

describe("the client of harnessd, against what the Go program really sent", () => {
  for (const capture of [
    "simple",
    "tool",
    "approved",
    "denied",
    "askuser",
    "steered",
    "maxsteps",
    "llmfail",
    "cancelled",
  ]) {
    test(`reads the run "${capture}" from its first to its terminal event`, async () => {
      await using server = await goHarnessd({ capture });
      const events = await collect(server);
      expect(numbers(events)).toEqual(upTo(server.frames.length));
      expect(events.at(-1)?.type).toMatch(/^run\.(completed|failed|cancelled)$/);
      for (const event of events) {
        expect(event.id).toBe(`${server.runId}:${event.seq}`);
        expect(event.payload["conversation_id"]).toBe(server.runId);
        expect(Date.parse(event.at)).toBeGreaterThan(0);
      }
    });
  }

  test("resumes behind an event, and gets no event twice", async () => {
    await using server = await goHarnessd({ capture: "tool" });
    const events = await collect(server, { after: `${server.runId}:4` });
    expect(numbers(events)).toEqual(upTo(server.frames.length, 5));
  });

  test("resumes a finished run at its end without waiting for ever (LESSONS 24)", async () => {
    await using server = await goHarnessd({ capture: "simple" });
    const last = server.frames.length - 1;
    expect(await collect(server, { after: `${server.runId}:${last}` })).toEqual([]);
    expect(server.resumes).toEqual([`${server.runId}:${last - 1}`]);
  });

  test("connects again when the stream breaks in the middle of a frame", async () => {
    await using server = await goHarnessd({ capture: "tool", cutAfter: [3, 0, 4] });
    expect(numbers(await collect(server))).toEqual(upTo(server.frames.length));
    expect(server.resumes.length).toBe(4);
  });

  test("fetches again what was dropped under load", async () => {
    await using server = await goHarnessd({ capture: "tool", dropOnce: [2, 3, 7] });
    expect(numbers(await collect(server))).toEqual(upTo(server.frames.length));
  });

  test("tells a hole that stays as one log.gap, never as silence", async () => {
    await using server = await goHarnessd({ capture: "tool", dropAlways: [2, 3] });
    const events = await collect(server);
    const gap = events.find(({ type }) => type === "log.gap");
    expect(gap).toMatchObject({ seq: 3, payload: { from: 2, to: 3 } });
    expect(numbers(events)).toEqual(upTo(server.frames.length).filter((n) => n !== 2));
  });

  test("a 502 page is a failed attempt, not an empty run (LESSONS 20)", async () => {
    await using server = await goHarnessd({ capture: "simple", refuse: [502, 502] });
    expect(numbers(await collect(server))).toEqual(upTo(server.frames.length));
    await using broken = await goHarnessd({ capture: "simple", refuse: [502, 502, 502] });
    await expect(collect(broken, { maxFailures: 3 })).rejects.toMatchObject({
      code: "harness_unreachable",
    });
  });

  test("a run that harnessd forgot, a wrong token and a dead address each have their code", async () => {
    await using server = await goHarnessd({ capture: "simple" });
    const client = clientOf(server);
    await expect(client.getRun("run_x", signal)).rejects.toMatchObject({ code: "run_not_found" });
    const events = client.events("run_x", {}, signal)[Symbol.asyncIterator]();
    await expect(events.next()).rejects.toMatchObject({ code: "run_not_found" });
    const stranger = harnessClient({ url: server.url, token: "x" });
    await expect(stranger.health(signal)).rejects.toMatchObject({ extensions: { status: 401 } });
    const nobody = harnessClient({ url: "http://127.0.0.1:1", token: "token" });
    await expect(nobody.health(signal)).rejects.toMatchObject({ code: "harness_unreachable" });
  });

  test("an abort ends the wait at once, also before the headers came", async () => {
    await using server = await goHarnessd({ capture: "simple", dropAlways: upTo(50) });
    const stop = new AbortController();
    const events = clientOf(server).events(server.runId, {}, stop.signal);
    const next = events[Symbol.asyncIterator]().next();
    while (server.resumes.length === 0) await new Promise((resolve) => setImmediate(resolve));
    stop.abort(new Error("enough"));
    await expect(next).rejects.toThrow("enough");
  });

  test("a silent stream of an ended run is opened again, where there is something to read", async () => {
    await using server = await goHarnessd({ capture: "simple", dropAlways: upTo(50) });
    const events = clientOf(server).events(
      server.runId,
      { idleCheckMs: 30, maxFailures: 2 },
      signal,
    );
    await expect(events[Symbol.asyncIterator]().next()).rejects.toMatchObject({
      code: "harness_unreachable",
    });
    expect(server.resumes.length).toBe(2);
  });
});

test("harnessd's own refusals keep their code", async () => {
  const answers: Record<string, [number, string]> = {
    "/v1/runs": [409, '{"error":{"code":"harness_missing","message":"no claude here"}}'],
    "/v1/runs/r/approve": [409, '{"error":{"code":"not_waiting","message":"waits for nothing"}}'],
    "/v1/runs/r/cancel": [500, "boom"],
  };
  const server = createServer((request, response) => {
    const [status, body] = answers[request.url ?? ""] ?? [404, ""];
    response.writeHead(status).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  const client = harnessClient({ url, token: "token" });
  await expect(client.createRun({ prompt: "x" }, signal)).rejects.toMatchObject({
    code: "harness_missing",
    message: "no claude here",
  });
  await expect(client.approve("r", {}, signal)).rejects.toMatchObject({ code: "run_not_waiting" });
  await expect(client.cancel("r", signal)).rejects.toMatchObject({ code: "harness_failed" });
  expect(await client.harnesses(signal)).toEqual([]);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

test("a stream that breaks again and again is harness_unreachable: the caller asks the engine", async () => {
  const server = createServer((_request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(": open\n\n", () => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const address = server.address();
    const port = typeof address === "object" ? address?.port : undefined;
    const client = clientOf({ url: `http://127.0.0.1:${port}` });
    const events = client.events("run_1", { maxFailures: 2 }, signal);
    await expect(Array.fromAsync(events)).rejects.toMatchObject({ code: "harness_unreachable" });
  } finally {
    server.close();
  }
});
