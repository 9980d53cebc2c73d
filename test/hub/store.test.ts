import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openHubKeys } from "../../src/hub/keys.ts";
import { buildHub } from "../../src/hub/main.ts";
import { RunLog } from "../../src/hub/run-log.ts";
import { openStore } from "../../src/hub/store/open-store.ts";
import { newRun } from "../../src/hub/store/runs.ts";
import { Wakeups } from "../../src/hub/wakeups.ts";
import { encodeRunEvent } from "../../src/protocol/run-events.ts";
import { openDb } from "../../src/storage/open-db.ts";
import { HubFixture } from "../support/hub-fixture.ts";

const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined };
let root: string;
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "deco-hub-store-"));
});
afterAll(() => rm(root, { recursive: true }));

function freshDir(): string {
  count += 1;
  return join(root, String(count));
}

test("keys are made once, are private, and stay the same", async () => {
  const dir = freshDir();
  const made = openHubKeys(dir);
  const token = await made.userToken({ user: "ada", ttlSeconds: 60 });
  const opened = openHubKeys(dir);
  expect(await opened.readUserToken(token)).toMatchObject({ user: "ada" });
  const which = { kid: made.masterKid, jti: "j", linkId: "l", epoch: 7 };
  expect(opened.signingKey(which)).toEqual(made.signingKey(which));
  expect(made.signingKey({ ...which, epoch: 8 })).not.toEqual(made.signingKey(which));
  expect((await stat(join(dir, "keys.json"))).mode & 0o777).toBe(0o600);
  expect((await stat(dir)).mode & 0o777).toBe(0o700);
});

test("a damaged key file stops the hub instead of signing everybody out", async () => {
  const dir = freshDir();
  openHubKeys(dir);
  await writeFile(join(dir, "keys.json"), "{}");
  expect(() => openHubKeys(dir)).toThrow(expect.objectContaining({ code: "storage_failed" }));
});

test("a key that was retired derives nothing", () => {
  const keys = openHubKeys(freshDir());
  expect(() => keys.signingKey({ kid: "gone", jti: "j", linkId: "l", epoch: 1 })).toThrow(
    expect.objectContaining({ code: "bad_secret" }),
  );
});

test("the registry's file holds no secret that signs", async () => {
  await using fixture = await HubFixture.start();
  const daemon = await fixture.linked();
  const { linkSecret = "", signingKey = "" } = daemon.registered ?? {};
  const cookie = (await fixture.session()).split("=")[1] ?? "";
  for (const file of ["hub.db", "hub.db-wal"]) {
    const bytes = await readFile(join(fixture.dataDir, file)).catch(() => Buffer.alloc(0));
    for (const secret of [linkSecret, signingKey, cookie])
      expect(bytes.includes(secret)).toBe(false);
    expect(bytes.includes(Buffer.from(signingKey, "base64url"))).toBe(false);
  }
});

test("the files of the hub are nobody else's to read", async () => {
  await using fixture = await HubFixture.start();
  expect((await stat(fixture.dataDir)).mode & 0o077).toBe(0);
});

test("a store of a newer hub is refused, not half understood", () => {
  const dir = freshDir();
  openStore(dir).close();
  const db = openDb(join(dir, "hub.db"));
  db.exec("PRAGMA user_version = 99");
  db.close();
  expect(() => openStore(dir)).toThrow(expect.objectContaining({ code: "storage_failed" }));
});

test("a store that does not answer is 503 with Retry-After, never an empty 200 (LESSONS 5)", async () => {
  const { app, context } = buildHub({ port: 0, dataDir: freshDir(), log: quiet });
  const headers = { host: "localhost" };
  expect((await app.request("/readyz", { headers })).status).toBe(200);
  context.store.close();
  for (const [method, path] of [
    ["GET", "/readyz"],
    ["GET", "/api/links/me"],
    ["POST", "/api/links"],
    ["POST", "/api/links/heartbeat"],
  ]) {
    const answer = await app.request(path ?? "", { headers, method: method ?? "" });
    expect(answer.status).toBe(503);
    expect(answer.headers.get("retry-after")).toBe("2");
    expect(await answer.json()).toMatchObject({ code: "unavailable" });
  }
  expect((await app.request("/healthz", { headers })).status).toBe(200);
});

test("a batch with a gap or a line of another run stores nothing of itself", () => {
  const store = openStore(freshDir());
  const log = new RunLog({ store, wakeups: new Wakeups(), now: Date.now });
  const base = { runId: "run_a", user: "ada", linkId: "l", createdAt: 1 };
  store.runs.put(newRun(base));
  for (const frames of [
    [frame(1), frame(3)],
    [frame(1), frame(2, "run_b")],
    [frame(1), { id: "2", data: "no json" }],
    [frame(1), { ...frame(2), id: "7" }],
  ]) {
    expect(() => log.take("run_a", 1, frames)).toThrow(
      expect.objectContaining({ code: "invalid_request" }),
    );
    expect(store.runs.get("run_a")?.lastSeq).toBe(0);
    expect(store.events.read("run_a", 0, 10)).toEqual([]);
  }
  log.take("run_a", 1, [frame(1), frame(1), frame(2)]);
  log.take("run_a", 1, [frame(2), frame(3)]);
  expect(store.events.read("run_a", 0, 10).map(({ linkSeq }) => linkSeq)).toEqual([1, 2, 3]);
  // Of an attempt that is over nothing is taken.
  expect(log.take("run_a", 2, [frame(4)])?.lastSeq).toBe(3);
  store.close();
});

function frame(seq: number, runId = "run_a") {
  const at = new Date().toISOString();
  return { id: String(seq), data: encodeRunEvent({ seq, runId, type: "usage", at, payload: {} }) };
}
