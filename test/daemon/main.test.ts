import { expect, test } from "bun:test";
import { stat } from "node:fs/promises";
import { startDaemon } from "../../src/daemon/main.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import { HERE, testDaemon } from "../support/control-daemon.ts";
import { scriptedHub } from "../support/control-hub.ts";

test("a daemon starts, links itself, tells its state, and leaves cleanly", async () => {
  await using hub = await scriptedHub();
  await using it = await testDaemon(hub.url, { flags: { name: "laptop" } });
  await it.daemon.ready;
  expect(hub.registrations[0]?.body).toMatchObject({ name: "laptop", ...HERE });
  expect(it.daemon.status()).toMatchObject({
    state: "online",
    tunnel: "up",
    linkId: "link_1",
    epoch: 1,
    hub: hub.url,
    load: { runs: 0, maxRuns: 4 },
  });
  expect((await stat(it.daemon.socketPath)).mode & 0o777).toBe(0o600);
  expect((await it.local("GET", "/v1/status")).body).toMatchObject({ state: "online" });
  await it.daemon.close();
  expect(await it.daemon.closed).toEqual({ exitCode: 0 });
  expect(hub.left).toEqual([1]);
});

test("a second daemon on the home is refused with 9 and leaves the first alone", async () => {
  await using hub = await scriptedHub();
  await using it = await testDaemon(hub.url, { page: "http://127.0.0.1:1/" });
  const second = startDaemon({ config: it.config });
  await expect(second).rejects.toMatchObject({ code: "already_running", info: { exit: 9 } });
  await expect(second).rejects.toThrow("http://127.0.0.1:1/");
  await it.daemon.ready;
  expect((await it.local("GET", "/healthz")).body).toEqual({ status: "ok" });
});

test("a revoked daemon wipes its keys and ends with 4", async () => {
  await using hub = await scriptedHub();
  await using it = await testDaemon(hub.url);
  await it.daemon.ready;
  const { machineFile, linkFile } = it.config.paths;
  expect((await stat(linkFile)).mode & 0o777).toBe(0o600);
  hub.script.heartbeat = () => ({ revoked: true });
  expect(await it.daemon.closed).toMatchObject({ exitCode: 4, error: { code: "revoked" } });
  await expect(stat(machineFile)).rejects.toThrow("ENOENT");
  await expect(stat(linkFile)).rejects.toThrow("ENOENT");
});

test("a superseded daemon ends with 9 and keeps its keys", async () => {
  await using hub = await scriptedHub();
  await using it = await testDaemon(hub.url, { service: true });
  await it.daemon.ready;
  hub.script.heartbeat = () => {
    throw new DecoError("superseded", "a newer one");
  };
  expect(await it.daemon.closed).toMatchObject({ exitCode: 9, error: { code: "superseded" } });
  expect((await stat(it.config.paths.machineFile)).isFile()).toBe(true);
});

test("a refused service stays, answers, and says unauthorised with the next step", async () => {
  await using hub = await scriptedHub();
  hub.script.register = () => {
    throw new DecoError("upgrade_required", "too old");
  };
  await using it = await testDaemon(hub.url, { service: true });
  await hub.until(() => hub.registrations.length === 1);
  let { body } = await it.local("GET", "/v1/status");
  while (it.daemon.status().state !== "unauthorised") {
    ({ body } = await it.local("GET", "/v1/status"));
  }
  ({ body } = await it.local("GET", "/v1/status"));
  expect(body).toMatchObject({
    state: "unauthorised",
    error: { code: "upgrade_required", fix: expect.stringContaining("npm") },
  });
});

test("a draining daemon tells the hub and takes no run", async () => {
  await using hub = await scriptedHub({ heartbeatIntervalMs: 60_000 });
  await using it = await testDaemon(hub.url);
  await it.daemon.ready;
  expect(await it.daemon.drain(0)).toBe(0);
  await hub.until(() => hub.heartbeats.at(-1)?.state === "draining");
  const run = { runId: "run_1", attempt: 1, harness: "shell", prompt: "true" };
  expect(await it.local("POST", "/v1/runs", run)).toMatchObject({
    status: 503,
    body: { code: "draining" },
  });
});

test("without a tunnel it listens on loopback before it registers, signed requests only", async () => {
  await using hub = await scriptedHub();
  await using it = await testDaemon(hub.url, { flags: { tunnel: false, port: 0 } });
  await it.daemon.ready;
  const url = it.daemon.controlUrl ?? "";
  expect(url).toStartWith("http://127.0.0.1:");
  expect(hub.registrations[0]?.body.tunnelUrl).toBe(url);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  expect((await fetch(`${url}/v1/status`)).status).toBe(401);
});

test("an unusable hub address is a usage error before anything is opened", async () => {
  await using hub = await scriptedHub();
  await using it = await testDaemon(hub.url);
  for (const address of [undefined, "http://hub.example", "ftp://127.0.0.1"]) {
    const config = { ...it.config, hub: address };
    await expect(startDaemon({ config })).rejects.toMatchObject({ code: "usage" });
  }
});
