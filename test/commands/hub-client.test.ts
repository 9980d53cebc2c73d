import { afterEach, describe, expect, test } from "bun:test";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { callApi, followRun } from "../../src/commands/hub-client.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import type { RunEvent } from "../../src/protocol/run-events.ts";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

async function serve(answer: Answer): Promise<{ url: string; token: string }> {
  const server = createServer(answer);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { url: `http://127.0.0.1:${address.port}`, token: "t" };
}

const frame = (seq: number, type = "tool.output.delta") =>
  `id: ${seq}\nevent: ${type}\ndata: ${JSON.stringify({
    seq,
    runId: "r",
    type,
    at: "2026-01-01T00:00:00.000Z",
    payload: {},
  })}\n\n`;

const stream = (response: ServerResponse) =>
  response.writeHead(200, { "content-type": "text/event-stream" });

const problem = (response: ServerResponse, error: DecoError) =>
  response
    .writeHead(error.info.status, { "content-type": "application/problem+json" })
    .end(JSON.stringify(error.toProblem()));

async function all(events: AsyncIterable<RunEvent>): Promise<number[]> {
  const seen: number[] = [];
  for await (const event of events) seen.push(event.seq);
  return seen;
}

const signal = AbortSignal.timeout(10_000);

describe("following a run", () => {
  test("resumes behind the last number after each cut, and sees every event once (LESSONS 14)", async () => {
    const asked: unknown[] = [];
    const target = await serve((request, response) => {
      asked.push(request.headers["last-event-id"]);
      const after = Number(request.headers["last-event-id"]);
      stream(response);
      // An overlap of one, as a hub may send it; then the connection dies.
      if (after > 0) response.write(frame(after));
      response.write(frame(after + 1));
      if (after < 3) setTimeout(() => response.destroy(), 20);
      else response.end(frame(after + 2, "run.completed"));
    });
    const cuts: string[] = [];
    const onCut = (error: DecoError) => cuts.push(error.code);
    expect(await all(followRun(target, { runId: "r", signal, onCut }))).toEqual([1, 2, 3, 4, 5]);
    expect(asked).toEqual(["0", "1", "2", "3"]);
    expect(cuts).toHaveLength(3);
  });

  test("a stream that ends without a terminal event means reconnect, never done", async () => {
    let streams = 0;
    const target = await serve((request, response) => {
      if (!request.url?.endsWith("/events")) {
        response.end(JSON.stringify({ status: "running", lastSeq: 1 }));
        return;
      }
      streams += 1;
      stream(response).end(streams === 1 ? frame(1) : frame(2, "run.cancelled"));
    });
    expect(await all(followRun(target, { runId: "r", signal }))).toEqual([1, 2]);
  });

  test("a 502 page is no empty run: it waits and asks again (LESSONS 20)", async () => {
    let asked = 0;
    const target = await serve((_request, response) => {
      asked += 1;
      if (asked === 1) response.writeHead(502, { "content-type": "text/html" }).end("<h1>bad</h1>");
      else stream(response).end(frame(1, "run.completed"));
    });
    expect(await all(followRun(target, { runId: "r", signal }))).toEqual([1]);
  });

  test("resuming at the end of a finished run ends at once", async () => {
    const target = await serve((request, response) => {
      if (request.url?.endsWith("/events")) stream(response).end();
      else response.end(JSON.stringify({ status: "completed", lastSeq: 7 }));
    });
    expect(await all(followRun(target, { runId: "r", after: 7, signal }))).toEqual([]);
  });

  test("an unknown run is an error, not a reason to wait", async () => {
    const target = await serve((_request, response) =>
      problem(response, new DecoError("run_not_found", "no run r")),
    );
    const seen = all(followRun(target, { runId: "r", signal }));
    expect(await seen.catch((thrown: unknown) => thrown)).toMatchObject({ code: "run_not_found" });
  });

  test("a gap in the numbers is an error that is told", async () => {
    const target = await serve((_request, response) => stream(response).end(frame(1) + frame(3)));
    const seen = all(followRun(target, { runId: "r", signal }));
    expect(await seen.catch((thrown: unknown) => thrown)).toMatchObject({ code: "internal" });
  });

  test("ends when its signal aborts, while it waits for a hub that is away", async () => {
    const target = await serve((_request, response) => response.destroy());
    const stop = new AbortController();
    const options = { runId: "r", signal: stop.signal, onCut: () => stop.abort(new Error("stop")) };
    const seen = all(followRun(target, options));
    expect(await seen.catch((thrown: unknown) => thrown)).toMatchObject({ message: "stop" });
  });
});

describe("one call", () => {
  test("a problem document becomes its code, with its own fix and extensions", async () => {
    const told = new DecoError("capability_missing", "no codex", {
      fix: "Install codex.",
      extensions: { activeCapabilities: ["shell"] },
    });
    const target = await serve((_request, response) => problem(response, told));
    const call = callApi(target, { path: "/api/runs", signal });
    expect(await call.catch((thrown: unknown) => thrown)).toMatchObject({
      code: "capability_missing",
      fix: "Install codex.",
      extensions: { activeCapabilities: ["shell"] },
    });
  });

  test("something that is no hub at that address is said so", async () => {
    const target = await serve((_request, response) => response.end("<html>hello</html>"));
    const call = callApi(target, { path: "/api/runs", signal });
    expect(await call.catch((thrown: unknown) => thrown)).toMatchObject({
      code: "hub_unreachable",
    });
  });

  test("the token goes as a Bearer header", async () => {
    const target = await serve((request, response) =>
      response.end(JSON.stringify({ got: request.headers.authorization })),
    );
    expect(await callApi(target, { path: "/", signal })).toEqual({ got: "Bearer t" });
  });
});
