import { expect, test } from "bun:test";
import { mkdir, readdir, rmdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { silentLog } from "../../src/daemon/log.ts";
import { startDaemon } from "../../src/daemon/main.ts";
import { startHub } from "../../src/hub/main.ts";
import { httpRequest } from "../../src/net/http-request.ts";
import { RunEvent } from "../../src/protocol/run-events.ts";
import { SseDecoder } from "../../src/protocol/sse.ts";
import { testDaemon } from "../support/control-daemon.ts";
import { type TestHome, testHome } from "../support/control-home.ts";
import { call } from "../support/hub-call.ts";

const BUILT = join(import.meta.dirname, "../../.cache/deco");
const HOUR = 3_600_000;

async function withBuilt({ paths }: TestHome): Promise<void> {
  await mkdir(BUILT, { recursive: true });
  await rmdir(paths.cache);
  await symlink(BUILT, paths.cache);
}

/** All events of a run up to its end, as the hub stored them. */
async function eventsOf(hub: string, token: string, runId: string): Promise<RunEvent[]> {
  const answer = await httpRequest({
    url: `${hub}/api/runs/${runId}/events`,
    headers: { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(20_000),
  });
  const frames = new SseDecoder().push(await answer.bytes());
  return frames.map(({ data }) => RunEvent.parse(JSON.parse(data)));
}

test("a daemon that leaves with a run in work: said by status, suspended at the hub, adopted by the next one; a sleep before is in the log", async () => {
  await using place = await testHome();
  await using hub = await startHub({
    port: 0,
    dataDir: join(place.dir, "hub"),
    log: silentLog,
    heartbeatIntervalMs: 50,
  });
  const token = await hub.userToken({ user: "u", ttlSeconds: 600 });
  let sleptMs = 0;
  await using it = await testDaemon(hub.url, {
    env: { DECO_TOKEN: token },
    flags: { provider: "process" },
    clocks: { now: () => Date.now() + sleptMs, everyMs: 10 },
    prepare: withBuilt,
  });
  await it.daemon.ready;
  const prompt = "echo one; sleep 4; echo two";
  const run = { runId: "run_1", attempt: 1, harness: "shell", prompt, user: "u" };
  expect((await it.local("POST", "/v1/runs", run)).status).toBe(202);
  const until = async (type: string) => {
    const events = it.daemon.status().runs[0];
    if (events === undefined) throw new Error(`ended before ${type}`);
    await sleep(20);
    return events.lastSeq;
  };
  while ((await until("output")) < 6);
  const before = await until("sleep");
  sleptMs = HOUR;
  while ((await until("sleep")) < before + 2);

  expect(await it.daemon.drain(50)).toBe(1);
  expect(it.daemon.status()).toMatchObject({
    state: "draining",
    drain: { runs: [{ runId: "run_1", attempt: 1 }] },
    sandboxes: { running: 0, unknown: 0, removed: 0 },
  });
  await it.daemon.close();
  const { body } = await call(hub.url, { path: "/api/links/me", token });
  expect(body).toMatchObject({ status: "suspended" });

  await using again = await startDaemon({ config: it.config });
  await again.ready;
  const events = await eventsOf(hub.url, token, "run_1");
  const said = events.filter(({ type }) => type === "tool.output.delta");
  expect(said.map(({ payload }) => payload["content"]).join("")).toBe("one\ntwo\n");
  expect(events.at(-1)?.type).toBe("run.completed");
  const resumed = events.find(({ type }) => type === "run.resumed");
  expect(resumed?.payload["reason"]).toBe("sleep");
  expect(Number(resumed?.payload["sleptMs"])).toBeGreaterThan(HOUR - 1000);
}, 60_000);

test("a daemon that leaves ends what a PUT is just making, and waits until nothing is left of it", async () => {
  await using it = await testDaemon("http://127.0.0.1:9", {
    flags: { provider: "process" },
    prepare: withBuilt,
  });
  const made = it.local("PUT", "/v1/sandboxes/half", {}).catch(() => undefined);
  while ((await readdir(it.config.paths.runRoot)).length === 0) await sleep(2);
  await it.daemon.close();
  expect((await it.daemon.closed).kept).toBeUndefined();
  expect(await readdir(it.config.paths.runRoot)).toEqual([]);
  expect((await made)?.status).not.toBe(201);
}, 60_000);
