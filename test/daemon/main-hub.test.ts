import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { writeLinkRecord } from "../../src/daemon/credentials.ts";
import { silentLog } from "../../src/daemon/log.ts";
import { startDaemon } from "../../src/daemon/main.ts";
import { type RunningHub, startHub } from "../../src/hub/main.ts";
import { testDaemon } from "../support/control-daemon.ts";
import { type TestHome, testHome } from "../support/control-home.ts";

// The real daemon against the real hub.

async function hubOf(home: TestHome, more: Partial<Parameters<typeof startHub>[0]> = {}) {
  return startHub({
    port: 0,
    dataDir: join(home.dir, "hub"),
    log: silentLog,
    heartbeatIntervalMs: 50,
    ...more,
  });
}

const userToken = (hub: RunningHub) => hub.userToken({ user: "u", ttlSeconds: 600 });

test("a laptop enrols with its user's token, and comes back by its proof alone", async () => {
  await using home = await testHome();
  await using hub = await hubOf(home);
  await using it = await testDaemon(hub.url, { env: { DECO_TOKEN: await userToken(hub) } });
  await it.daemon.ready;
  const { linkId, epoch = 0 } = it.daemon.status();
  await it.daemon.close();
  const config = { ...it.config, userToken: "expired-long-ago" };
  await using again = await startDaemon({ config });
  await again.ready;
  expect(again.status().linkId).toBe(linkId ?? "");
  expect(again.status().epoch).toBeGreaterThan(epoch);
});

test("a laptop that nobody knows is told to log in, with exit code 4", async () => {
  await using home = await testHome();
  await using hub = await hubOf(home);
  await using it = await testDaemon(hub.url, { env: { DECO_TOKEN: "" } });
  expect(await it.daemon.closed).toMatchObject({ exitCode: 4, error: { code: "not_enrolled" } });
  await expect(it.daemon.ready).rejects.toMatchObject({ code: "not_enrolled" });
});

test("of two daemons with one identity the newer wins, and the older stops with 9 (LESSONS 4)", async () => {
  await using home = await testHome();
  await using hub = await hubOf(home);
  const env = { DECO_TOKEN: await userToken(hub) };
  await using older = await testDaemon(hub.url, { env, service: true });
  await older.daemon.ready;
  await using newer = await testDaemon(hub.url, {
    env,
    prepare: (its) => copyFile(older.config.paths.machineFile, its.paths.machineFile),
  });
  await newer.daemon.ready;
  expect(await older.daemon.closed).toMatchObject({ exitCode: 9, error: { code: "superseded" } });
  expect(newer.daemon.status()).toMatchObject({ state: "online", tunnel: "up" });
});

test("a hub that restarts finds its link again by itself, with the same link id", async () => {
  await using home = await testHome();
  const first = await hubOf(home);
  await using it = await testDaemon(first.url, { env: { DECO_TOKEN: await userToken(first) } });
  await it.daemon.ready;
  const { linkId = "" } = it.daemon.status();
  await first.close();
  while (it.daemon.status().tunnel === "up") await it.local("GET", "/healthz");
  await using second = await hubOf(home, { port: first.port });
  while (it.daemon.status().state !== "online") await it.local("GET", "/healthz");
  expect(it.daemon.status().linkId).toBe(linkId);
  expect(second.port).toBe(first.port);
});

test("without a tunnel the hub asks the laptop's own port, and takes it for online", async () => {
  await using home = await testHome();
  await using hub = await hubOf(home, { allowLocalhostLinks: true });
  const token = await userToken(hub);
  await using it = await testDaemon(hub.url, {
    env: { DECO_TOKEN: token },
    flags: { tunnel: false, port: 0 },
  });
  await it.daemon.ready;
  const headers = { authorization: `Bearer ${token}` };
  let status: unknown;
  while (status !== "online") {
    const answer = await fetch(`${hub.url}/api/links/me`, { headers });
    ({ status } = JSON.parse(await answer.text()));
  }
  expect(it.daemon.status()).toMatchObject({ state: "online", tunnel: "off" });
});

test("a hub that takes no localhost links ends the daemon with 4 and says how to allow them", async () => {
  await using home = await testHome();
  await using hub = await hubOf(home);
  await using it = await testDaemon(hub.url, {
    env: { DECO_TOKEN: await userToken(hub) },
    flags: { tunnel: false, port: 0 },
  });
  expect(await it.daemon.closed).toMatchObject({
    exitCode: 4,
    error: { code: "localhost_links_disabled", fix: expect.stringContaining("DECO_ALLOW") },
  });
});

test("what a killed daemon left behind (socket, holder, link record) stops no new one", async () => {
  await using home = await testHome();
  await using hub = await hubOf(home);
  const env = { DECO_TOKEN: await userToken(hub) };
  await using it = await testDaemon(hub.url, {
    env,
    async prepare({ paths }) {
      await writeLinkRecord(paths.linkFile, { hub: "https://old.example", linkId: "x", epoch: 1 });
      await leaveSocket(paths.controlSocket);
    },
  });
  await it.daemon.ready;
  expect((await it.local("GET", "/healthz")).status).toBe(200);
});

/** A socket file that nobody serves any more, as kill -9 leaves it. */
async function leaveSocket(path: string): Promise<void> {
  const program = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => console.log("up"))`;
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}
