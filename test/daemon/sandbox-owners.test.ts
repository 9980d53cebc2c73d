import { afterAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rulesPlaces, sandboxRules } from "../../src/daemon/sandbox-rules.ts";
import { deferred } from "../../src/protocol/deferred.ts";
import { type ControlPlane, controlPlane, read } from "../support/control-plane.ts";

const config = await mkdtemp(join(tmpdir(), "deco-owners-"));
afterAll(() => rm(config, { recursive: true }));
const rules = sandboxRules(rulesPlaces(config));
const JSON_TYPE = { "content-type": "application/json" };

type Door = "socket" | "tunnel";

async function ask(plane: ControlPlane, door: Door, line: string, body?: string) {
  const [method = "", path = ""] = line.split(" ");
  const request = { method, path, ...(body === undefined ? {} : { headers: JSON_TYPE, body }) };
  const sent = door === "socket" ? request : plane.sign(request);
  const { status, json } = await read(await plane.send(door, sent));
  return { status, json };
}

const WAYS_IN = [
  "GET /v1/sandboxes/box",
  "GET /v1/sandboxes/box/logs",
  "GET /v1/sandboxes/box/files?path=x",
  "GET /v1/sandboxes/box/archive",
  "PUT /v1/sandboxes/box/archive",
  "GET /v1/sandboxes/box/ports/80/",
];

test("for a hub the owner's own sandbox is not there: no list, no way in, no removal", async () => {
  await using plane = await controlPlane({ rules });
  const before = await Promise.all(WAYS_IN.map((line) => ask(plane, "tunnel", line)));
  expect(before.map(({ status }) => status)).toEqual(WAYS_IN.map(() => 404));
  expect((await ask(plane, "socket", "PUT /v1/sandboxes/box", "{}")).status).toBe(201);
  const after = await Promise.all(WAYS_IN.map((line) => ask(plane, "tunnel", line)));
  expect(after).toEqual(before);
  const listed = await ask(plane, "tunnel", "GET /v1/sandboxes");
  expect(listed.json).toEqual({ sandboxes: [], errors: [] });
  for (const force of ["", "?force=true"]) {
    const gone = await ask(plane, "tunnel", `DELETE /v1/sandboxes/box${force}`);
    expect(gone).toEqual({ status: 204, json: {} });
  }
  expect(plane.provider.boxes.has("box")).toBe(true);
  const own = await ask(plane, "socket", "GET /v1/sandboxes/box");
  expect(own.json).toMatchObject({ handle: "box", owner: "@local" });
});

test("a hub that asks for the owner's handle is told that it is taken, and nothing of it", async () => {
  await using plane = await controlPlane({ rules });
  await ask(plane, "socket", "PUT /v1/sandboxes/box", "{}");
  const { status, json } = await ask(plane, "tunnel", "PUT /v1/sandboxes/box", "{}");
  expect(status).toBe(409);
  expect(json).toMatchObject({ code: "run_conflict", detail: "the handle box is taken" });
  expect(JSON.stringify(json)).not.toMatch(/id-box|@local|running|docker/);
});

test("a hub that comes while the owner's sandbox is made gets no share of it", async () => {
  await using plane = await controlPlane({ rules });
  const { provider } = plane;
  const [begun, joined, gate] = [deferred(), deferred(), deferred()];
  const made = { ...provider };
  let work: ReturnType<typeof provider.ensure> | undefined;
  provider.ensure = (...args) => {
    // As the real ones: who comes while it is made shares the work.
    if (work !== undefined) joined.resolve();
    work ??= gate.promise.then(() => made.ensure(...args));
    begun.resolve();
    return work;
  };
  const own = ask(plane, "socket", "PUT /v1/sandboxes/box", "{}");
  await begun.promise;
  const hubs = ask(plane, "tunnel", "PUT /v1/sandboxes/box", "{}");
  await joined.promise;
  gate.resolve();
  expect((await own).status).toBe(201);
  expect((await hubs).json).toMatchObject({ code: "run_conflict" });
});

test("a run of the owner that has no sandbox yet is neither told to a hub nor ended by it", async () => {
  await using plane = await controlPlane({ rules });
  const gate = deferred();
  const { provider } = plane;
  const made = { ...provider };
  provider.ensure = (...args) => gate.promise.then(() => made.ensure(...args));
  const run = { runId: "own", attempt: 1, harness: "shell", prompt: "true" };
  await ask(plane, "socket", "POST /v1/runs", JSON.stringify(run));
  const [{ handle } = { handle: "" }] = plane.executor.active();
  for (const force of ["", "?force=true"]) {
    const gone = await ask(plane, "tunnel", `DELETE /v1/sandboxes/${handle}${force}`);
    expect(gone).toEqual({ status: 204, json: {} });
  }
  const put = await ask(plane, "tunnel", `PUT /v1/sandboxes/${handle}`, "{}");
  expect(put.json).toMatchObject({ code: "run_conflict" });
  const own = await ask(plane, "socket", `DELETE /v1/sandboxes/${handle}`);
  expect(own.json).toMatchObject({ code: "sandbox_busy" });
  expect(plane.journal.state("own")?.status).not.toBe("cancelled");
  gate.resolve();
});

test("a hub's sandboxes, and those from before there were owners, are its own as ever", async () => {
  await using plane = await controlPlane({ rules });
  const made = await ask(plane, "tunnel", "PUT /v1/sandboxes/hubs", "{}");
  expect(made.status).toBe(201);
  expect(made.json).not.toHaveProperty("owner");
  const info = plane.provider.boxes.get("hubs");
  if (info === undefined) throw new Error("no box");
  const { owner, ...unmarked } = info;
  expect(owner).toBe("@hub");
  plane.provider.boxes.set("old", { ...unmarked, handle: "old" });
  for (const handle of ["hubs", "old"]) {
    expect((await ask(plane, "tunnel", `GET /v1/sandboxes/${handle}`)).status).toBe(200);
    expect((await ask(plane, "socket", `PUT /v1/sandboxes/${handle}`, "{}")).status).toBe(200);
    await ask(plane, "tunnel", `DELETE /v1/sandboxes/${handle}`);
    expect(plane.provider.boxes.has(handle)).toBe(false);
  }
});

test("the owner's policy may share his sandboxes with hubs; a broken one shares nothing", async () => {
  await using plane = await controlPlane({ rules });
  await ask(plane, "socket", "PUT /v1/sandboxes/box", "{}");
  const statuses = async (policy: string) => {
    await writeFile(join(config, "policy.json"), policy, { mode: 0o600 });
    return (await ask(plane, "tunnel", "GET /v1/sandboxes/box")).status;
  };
  expect(await statuses(`{"version": 1, "shareLocalSandboxes": true}`)).toBe(200);
  expect(await statuses(`{"version": 1, "shareLocalSandboxes": false}`)).toBe(404);
  expect(await statuses(`{"version": 1, "shareLocalSandboxes": true`)).toBe(404);
});
