import { afterEach, beforeEach, expect, test } from "bun:test";
import { createPrune } from "../../src/daemon/prune.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import type { Orphan } from "../../src/sandbox/provider.ts";
import { type ControlPlane, controlPlane, read, type Transport } from "../support/control-plane.ts";

const RUN = "r-0123456789abcdef";
const THREAD = "t-0123456789abcdef";
const signal = AbortSignal.timeout(60_000);
const json = { "content-type": "application/json" };

let plane: ControlPlane;
let orphans: Orphan[];
let removedOrphans: string[];

beforeEach(async () => {
  plane = await controlPlane();
  orphans = [];
  removedOrphans = [];
  plane.provider.orphans = async () => {
    if (plane.provider.down) throw plane.provider.down;
    return orphans;
  };
  plane.provider.removeOrphan = async ({ name }) => void removedOrphans.push(name);
});
afterEach(() => plane[Symbol.asyncDispose]());

async function make(handle: string, status: "running" | "stopped" | "unknown" = "running") {
  const context = { instanceId: "test", onStage: () => {} };
  const info = await plane.provider.ensure(handle, {}, context, signal);
  plane.provider.boxes.set(handle, { ...info, status });
}

const look = async (through: Transport = "socket") => {
  const request = { method: "GET", path: "/v1/prune" };
  return await read(
    await plane.send(through, through === "socket" ? request : plane.sign(request)),
  );
};
const execute = async (body: object = {}) =>
  await read(
    await plane.send("socket", {
      method: "POST",
      path: "/v1/prune",
      headers: json,
      body: JSON.stringify(body),
    }),
  );

test("a dry run names what nobody needs with the reason, and removes nothing", async () => {
  await make(RUN);
  await make(THREAD, "stopped");
  await make("mine");
  await make("mine-stopped", "stopped");
  orphans = [
    {
      kind: "volume",
      name: "deco-x-workspace",
      handle: THREAD,
      createdAt: "2026-01-01T00:00:00Z",
      reason: "its container is gone",
    },
  ];
  const answer = await look();
  expect(answer).toMatchObject({
    status: 200,
    json: {
      total: 5,
      candidates: [
        { kind: "sandbox", name: RUN, reason: expect.stringContaining("no thread comes back") },
        {
          kind: "sandbox",
          name: "mine-stopped",
          reason: "it does not run, and has no thread; its files go with it",
        },
        {
          kind: "volume",
          name: "deco-x-workspace",
          reason: "its container is gone; it holds a thread's files, which its next run would find",
        },
      ],
      removed: [],
      failed: [],
      unknown: [],
    },
  });
  expect(plane.provider.boxes.size).toBe(4);
  expect(removedOrphans).toEqual([]);
});

test("more than half is refused without force, and done with it", async () => {
  await make(RUN);
  await make("mine");
  orphans = [{ kind: "network", name: "n", createdAt: "2026-01-01T00:00:00Z", reason: "r" }];
  const refused = await execute();
  expect(refused).toMatchObject({
    status: 409,
    json: { code: "prune_too_much", total: 3, candidates: 2 },
  });
  expect(plane.provider.boxes.size).toBe(2);
  const done = await execute({ force: true });
  expect(done).toMatchObject({ status: 200, json: { removed: [{ name: RUN }, { name: "n" }] } });
  expect([...plane.provider.boxes.keys()]).toEqual(["mine"]);
  expect(removedOrphans).toEqual(["n"]);
});

test("half or less goes without force", async () => {
  await make(RUN);
  await make("mine");
  expect(await execute()).toMatchObject({ status: 200, json: { removed: [{ name: RUN }] } });
  expect([...plane.provider.boxes.keys()]).toEqual(["mine"]);
});

test("a sandbox in which a run waits or works is no candidate", async () => {
  await make(RUN);
  plane.executor.isBusy = (handle) => handle === RUN;
  expect(await look()).toMatchObject({ json: { total: 1, candidates: [] } });
});

test("of an engine that does not answer nothing is known, and nothing goes (LESSONS 27)", async () => {
  await make(RUN, "unknown");
  const unknown = [{ provider: "docker", code: "docker_unavailable", fix: expect.any(String) }];
  expect(await execute({ force: true })).toMatchObject({ json: { removed: [], unknown } });
  plane.provider.down = new DecoError("docker_unavailable", "gone");
  expect(await execute({ force: true })).toMatchObject({ json: { removed: [], unknown } });
  plane.provider.down = undefined;
  expect(plane.provider.boxes.size).toBe(1);
});

test("an engine that hangs while it is asked costs a moment, and is told as that", async () => {
  await make(RUN);
  plane.provider.orphans = (within) =>
    new Promise((_, reject) => {
      within.addEventListener("abort", () => reject(within.reason));
    });
  const prune = createPrune({
    providers: () => [plane.provider],
    busy: () => false,
    remove: (from, handle, within) => from.remove(handle, within),
    lookMs: 50,
  });
  expect(await prune.execute({ force: true }, signal)).toMatchObject({
    removed: [],
    unknown: [
      {
        provider: "docker",
        code: "docker_unavailable",
        detail: expect.stringContaining("within 50 ms"),
      },
    ],
  });
  expect(plane.provider.boxes.size).toBe(1);
});

test("what has no sandbox is not asked of an engine that did not list them", async () => {
  await make(RUN, "unknown");
  let asked = 0;
  plane.provider.orphans = async () => {
    asked += 1;
    return [];
  };
  expect(await look()).toMatchObject({ json: { unknown: [{ code: "docker_unavailable" }] } });
  expect(asked).toBe(0);
});

test("what can't be removed is told, and does not stop the rest", async () => {
  await make(RUN);
  await make("r-0000000000000002");
  plane.provider.remove = async (handle) => {
    if (handle === RUN) throw new DecoError("sandbox_failed", "in use");
    plane.provider.boxes.delete(handle);
  };
  expect(await execute({ force: true })).toMatchObject({
    json: {
      removed: [{ name: "r-0000000000000002" }],
      failed: [{ name: RUN, code: "sandbox_failed", detail: "in use" }],
    },
  });
});

test.each(["tcp", "tunnel"] as const)(
  "a hub may neither prune nor exec, whatever it signs (%s)",
  async (through) => {
    await make("mine");
    expect(await look(through)).toMatchObject({ status: 409, json: { code: "policy_denied" } });
    const exec = {
      method: "POST",
      path: "/v1/sandboxes/mine/exec",
      headers: json,
      body: '{"command":["id"]}',
    };
    const answer = await read(await plane.send(through, plane.sign(exec)));
    expect(answer).toMatchObject({ status: 409, json: { code: "policy_denied" } });
  },
);

test("exec streams both sides and the exit code; what fails on the way is an error in the stream", async () => {
  await make("mine");
  const exec = async (command: unknown, handle = "mine") =>
    await plane.send("socket", {
      method: "POST",
      path: `/v1/sandboxes/${handle}/exec`,
      headers: json,
      body: JSON.stringify({ command }),
    });
  expect(await read(await exec(["id"]))).toMatchObject({
    status: 409,
    json: { code: "isolation_unavailable" },
  });
  plane.provider.exec = async function* (_handle, [name]) {
    yield { stream: "stdout", content: "out" };
    if (name === "break") throw new DecoError("sandbox_lost", "it ended");
    yield { exitCode: 7 };
  };
  const textOf = async (command: string[]) => (await read(await exec(command))).bytes;
  const said = new TextDecoder().decode(await textOf(["id"]));
  expect(said).toContain('event: output\ndata: {"stream":"stdout","content":"out"}');
  expect(said).toContain('event: exit\ndata: {"exitCode":7}');
  const broken = new TextDecoder().decode(await textOf(["break"]));
  expect(broken).toMatch(/event: error\ndata: \{.*"code":"sandbox_lost"/);
  expect(await read(await exec([]))).toMatchObject({ status: 400 });
  expect(await read(await exec(["id"], "nobody"))).toMatchObject({ status: 404 });
  await make("mine", "stopped");
  expect(await read(await exec(["id"]))).toMatchObject({ json: { code: "sandbox_lost" } });
});

const get = (path: string) => ({ method: "GET", path: `/v1/sandboxes/${path}` });

test("logs are asked by number of lines, by hubs as well", async () => {
  await make("mine");
  plane.provider.logs = async (_handle, lines) => `the last ${lines}`;
  expect(await read(await plane.send("socket", get("mine/logs?lines=5")))).toMatchObject({
    status: 200,
    json: { handle: "mine", text: "the last 5" },
  });
  const signedGet = plane.sign(get("mine/logs"));
  expect(await read(await plane.send("tunnel", signedGet))).toMatchObject({
    json: { text: "the last 200" },
  });
  for (const lines of ["0", "x", "10001"]) {
    const answer = await read(await plane.send("socket", get(`mine/logs?lines=${lines}`)));
    expect(answer.status).toBe(400);
  }
});
