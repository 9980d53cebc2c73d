import { expect, test } from "bun:test";
import { getEventListeners } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { dockerEngine } from "../../src/sandbox/drivers/docker/engine/engine.ts";

/** An engine that answers as it is told to, and counts who is connected. */
async function engineThat(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const folder = await mkdtemp(join(tmpdir(), "deco-calls-"));
  const server = createServer(answer);
  let connected = 0;
  server.on("connection", (socket) => {
    connected += 1;
    socket.once("close", () => (connected -= 1));
  });
  await new Promise<void>((resolve) => server.listen(join(folder, "docker.sock"), resolve));
  return {
    engine: dockerEngine({ dockerHost: `unix://${join(folder, "docker.sock")}` }),
    connected: () => connected,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await rm(folder, { recursive: true });
    },
  };
}

test("calls that an engine does not answer keep no connection, however they end", async () => {
  await using hanging = await engineThat(() => undefined);
  const { engine, connected } = hanging;
  const { signal } = new AbortController();
  const late = { signal, deadlineMs: 200 };
  const calls = [
    engine.call("list volumes", (docker) => docker.listVolumes(), late),
    engine.call("list networks", (docker) => docker.listNetworks(), late),
    engine.call("start", (docker) => docker.getContainer("c").start(), late),
    engine.call("remove", (docker) => docker.getContainer("c").remove({ force: true }), late),
  ];
  for (const call of await Promise.allSettled(calls)) {
    expect(call).toMatchObject({ status: "rejected", reason: { code: "docker_unavailable" } });
  }
  const leaving = new AbortController();
  const left = engine.call("list images", (docker) => docker.listImages(), leaving);
  while (connected() === 0) await delay(5);
  leaving.abort(new Error("left"));
  expect(await left.catch((thrown: unknown) => thrown)).toMatchObject({ message: "left" });
  const since = performance.now();
  while (connected() > 0 && performance.now() - since < 5000) await delay(20);
  expect(connected()).toBe(0);
});

test("a call that is over leaves nothing behind at the signal of who asked", async () => {
  await using answering = await engineThat((_, response) => response.end("[]"));
  const { signal } = new AbortController();
  for (let i = 0; i < 20; i++) {
    await answering.engine.call("list images", (docker) => docker.listImages(), { signal });
  }
  expect(getEventListeners(signal, "abort")).toHaveLength(0);
});

test("a stream that a call gave goes on behind the call's deadline", async () => {
  await using following = await engineThat((_, response) => {
    response.write("first");
    setTimeout(() => response.end("last"), 600);
  });
  const stream = await following.engine.call(
    "follow a log",
    (docker) => docker.getContainer("c").logs({ follow: true, stdout: true }),
    { signal: new AbortController().signal, deadlineMs: 300 },
  );
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  expect(text).toBe("firstlast");
});
