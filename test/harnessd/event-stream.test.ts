import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, get, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EventLog } from "../../src/harnessd/event-log.ts";
import { streamEvents } from "../../src/harnessd/event-stream.ts";

/** A log behind a real server, which serves it from behind the number in the path. */
async function withLog(
  use: (log: EventLog, read: (after: number) => Promise<IncomingMessage>) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "events-"));
  const log = await EventLog.open({
    folder,
    runId: "run_1",
    maxBytes: 100 * 1024 * 1024,
    now: () => new Date(),
    onEvent: () => undefined,
  });
  const server = createServer((request, response) => {
    const after = Number(request.url?.slice(1));
    void streamEvents({ runId: "run_1", log, after, response, pingMs: 20 });
  });
  const port = await new Promise<number>((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address ? address.port : 0);
    });
  });
  const read = (after: number) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      get({ port, path: `/${after}`, agent: false }, resolve).once("error", reject);
    });
  try {
    await use(log, read);
  } finally {
    server.closeAllConnections();
    server.close();
    await log[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  }
}

async function nextText(answer: IncomingMessage): Promise<string> {
  return await new Promise((resolve) => {
    answer.once("data", (bytes: Buffer) => resolve(bytes.toString()));
  });
}

test("a stream that has nothing to say sends comments, so that nobody on the way drops it", async () => {
  await withLog(async (_log, read) => {
    const answer = await read(-1);
    expect(await nextText(answer)).toBe(": ping\n\n");
    answer.destroy();
  });
});

test("a resume in the middle of a long log gives each later event once, in order", async () => {
  await withLog(async (log, read) => {
    for (let seq = 0; seq < 5000; seq++) {
      log.append("tool.output.delta", { content: "x".repeat(1000) });
      await log.room(AbortSignal.timeout(10_000));
    }
    await log.settled();
    for (const after of [-1, 0, 262, 2500, 4998]) {
      const answer = await read(after);
      let text = "";
      for await (const piece of answer.setEncoding("utf8")) {
        text += String(piece);
        if (text.includes("id: run_1:4999\n")) break;
      }
      const ids = [...text.matchAll(/^id: run_1:(\d+)$/gm)].map((match) => Number(match[1]));
      expect(ids).toEqual(Array.from({ length: 4999 - after }, (_, index) => after + 1 + index));
    }
  });
});

test("events are numbered in the order of their appends, also when many come at once", async () => {
  await withLog(async (log, read) => {
    for (let index = 0; index < 1000; index++) log.append("usage", { index });
    await log.end("run.completed", {});
    let text = "";
    for await (const piece of (await read(-1)).setEncoding("utf8")) text += String(piece);
    const indexes = [...text.matchAll(/"index":(\d+)/g)].map((match) => Number(match[1]));
    expect(indexes).toEqual(Array.from({ length: 1000 }, (_, index) => index));
    expect(text).toContain("id: run_1:1000\nretry: 3000\nevent: run.completed\n");
  });
});
