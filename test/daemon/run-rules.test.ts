import { afterAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { handleOf } from "../../src/daemon/executor/handle-of.ts";
import { rulesPlaces, sandboxRules } from "../../src/daemon/sandbox-rules.ts";
import { deferred } from "../../src/protocol/deferred.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import type { DispatchRun } from "../../src/protocol/messages.ts";
import { controlPlane, read } from "../support/control-plane.ts";
import { MemoryProvider } from "../support/memory-provider.ts";
import { ExecutorHome } from "./executor-home.ts";

const config = await mkdtemp(join(tmpdir(), "deco-rules-"));
await mkdir(join(config, "templates"));
afterAll(() => rm(config, { recursive: true }));
const rules = sandboxRules(rulesPlaces(config));

const policy = (tiers: object) =>
  writeFile(join(config, "policy.json"), JSON.stringify({ version: 1, tiers }), { mode: 0o600 });
const template = (name: string, value: object) =>
  writeFile(join(config, "templates", `${name}.json`), JSON.stringify({ version: 1, ...value }));

const tierFour = (runId: string) => ({
  method: "POST",
  path: "/v1/runs",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({
    runId,
    attempt: 1,
    harness: "shell",
    prompt: "true",
    user: "@local",
    sandbox: { tier: 4 },
  }),
});

function codeOf(work: () => unknown): string {
  try {
    work();
    return "allowed";
  } catch (thrown) {
    return DecoError.from(thrown).code;
  }
}

test("a run's sandbox is what its template stands for; the template's env goes to its harness alone", async () => {
  await template("env", { env: { A: "template", B: "template" }, tier: 1, readyBudgetMs: 5000 });
  await using home = new ExecutorHome(new MemoryProvider("docker"), { rules });
  home.run("replay:simple", { sandbox: { template: "env", env: { B: "run" } }, thread: "t" });
  expect((await home.end()).at(-1)?.type).toBe("run.completed");
  const [ensured] = home.provider.ensured;
  expect(ensured?.spec).toEqual({
    tier: 1,
    facts: { template: "env", readyBudgetMs: 5000, labels: [], threadKey: expect.any(String) },
  });
  const [told] = home.provider.harness().runs.values();
  expect(told?.body["env"]).toEqual({ A: "template", B: "run" });
});

test("two users' threads of one name have two networks, branches of a thread one", async () => {
  await using home = new ExecutorHome(new MemoryProvider("docker"), { rules });
  const keyOf = async (runId: string, more: Partial<DispatchRun>) => {
    home.run("replay:simple", { runId, ...more });
    await home.end(runId);
    const { spec } = home.provider.ensured.at(-1) ?? {};
    return spec?.facts?.threadKey;
  };
  const ada = await keyOf("r1", { user: "ada", thread: "t" });
  expect(ada).toMatch(/^[0-9a-f]{12}$/);
  expect(await keyOf("r2", { user: "ada", thread: "t", branch: "b" })).toBe(ada);
  expect(await keyOf("r3", { user: "bob", thread: "t" })).not.toBe(ada);
  expect(await keyOf("r4", { user: "ada" })).toBeUndefined();
});

test("a thread of the laptop's owner is no hub's: neither its sandbox nor its network", async () => {
  await using plane = await controlPlane({ rules });
  const dispatch = async (door: "socket" | "tunnel", runId: string, user?: string) => {
    const body = { runId, attempt: 1, harness: "shell", prompt: "true", thread: "t", user };
    const request = { ...tierFour(runId), body: JSON.stringify(body) };
    const sent = door === "socket" ? request : plane.sign(request);
    const answer = await read(await plane.send(door, sent));
    if (answer.status !== 202) return { code: answer.json["code"] };
    const taken = plane.journal.dispatch(runId, 1);
    const { threadKey } = rules.resolve({}, { ...taken, local: false }).facts ?? {};
    return { handle: handleOf(taken, "docker"), threadKey };
  };
  const own = await dispatch("socket", "own");
  const hubs = await dispatch("tunnel", "hubs");
  expect(hubs).toEqual({ handle: expect.any(String), threadKey: expect.any(String) });
  expect(hubs.handle).not.toBe(own.handle);
  expect(hubs.threadKey).not.toBe(own.threadKey);
  expect(await dispatch("tunnel", "named", "@local")).toEqual({ code: "policy_denied" });
});

test("a grant to the laptop's own socket is none to what comes from a hub", async () => {
  await policy({ "4": ["@local"] });
  await using home = new ExecutorHome(new MemoryProvider("docker"), { rules });
  const body = { runId: "r", attempt: 1, harness: "shell", prompt: "replay:simple" };
  const asked = { ...body, sandbox: { tier: 4 } };
  expect(codeOf(() => home.executor.dispatch(asked, { local: false }))).toBe("policy_denied");
  expect(codeOf(() => home.executor.dispatch({ ...asked, user: "@local" }))).toBe("policy_denied");
  expect(home.journal.list()).toEqual([]);
  expect(codeOf(() => home.executor.dispatch(asked, { local: true }))).toBe("allowed");
  expect((await home.end("r")).at(-1)?.type).toBe("run.completed");
});

test("of the daemon's three doors only its own socket is the owner's", async () => {
  await policy({ "4": ["@local"] });
  await using plane = await controlPlane({ rules });
  for (const door of ["tcp", "tunnel"] as const) {
    const answer = await read(await plane.send(door, plane.sign(tierFour(door))));
    expect(answer).toMatchObject({ status: 409, json: { code: "policy_denied" } });
  }
  expect((await plane.send("socket", tierFour("socket"))).status).toBe(202);
});

test("a hub reaches into no privileged sandbox where the owner alone may have one", async () => {
  await using plane = await controlPlane({ rules });
  const body = { ...tierFour("r"), method: "PUT", path: "/v1/sandboxes/box", body: "{}" };
  expect((await plane.send("tunnel", plane.sign(body))).status).toBe(201);
  const info = plane.provider.boxes.get("box");
  if (info !== undefined) plane.provider.boxes.set("box", { ...info, confined: false });
  const requests = [
    { method: "PUT", path: "/v1/sandboxes/box/archive", body: "x" },
    { method: "GET", path: "/v1/sandboxes/box/archive" },
    { method: "GET", path: "/v1/sandboxes/box/files?path=x" },
    { method: "GET", path: "/v1/sandboxes/box/ports/80/" },
  ];
  const codes = async (door: "socket" | "tunnel") => {
    const found: unknown[] = [];
    for (const one of requests) {
      const sent = door === "socket" ? one : plane.sign(one);
      found.push((await read(await plane.send(door, sent))).json["code"]);
    }
    return found;
  };
  const denied = requests.map(() => "policy_denied");
  await policy({ "3": ["@local"], "4": ["@local"] });
  expect(await codes("tunnel")).toEqual(denied);
  expect(await codes("socket")).not.toContain("policy_denied");
  await policy({ "3": ["ada"] });
  expect(await codes("tunnel")).not.toContain("policy_denied");
});

test("a consent taken back before the sandbox was made counts after a restart as well", async () => {
  await policy({ "3": ["ada"] });
  await using home = new ExecutorHome(new MemoryProvider("docker"), { rules });
  const gate = deferred();
  home.provider.gate = gate.promise;
  home.run("true", { user: "ada", sandbox: { tier: 3 } });
  await home.until("sandbox.provisioning");
  await policy({ "3": [] });
  await home.restart({ rules });
  expect((await home.end()).at(-1)).toMatchObject({
    type: "run.failed",
    payload: { code: "policy_denied", leg: "daemon" },
  });
  gate.resolve();
});

test("what had begun goes on after a restart, also when its template is gone", async () => {
  await template("brief", { env: { A: "1" } });
  await using home = new ExecutorHome(new MemoryProvider("docker"), { rules });
  home.run("hang", { sandbox: { template: "brief" } });
  await home.until("assistant.message.delta");
  await rm(join(config, "templates", "brief.json"));
  await home.restart({ rules });
  home.provider.harness().emit("run.completed", { output: "all of it" });
  expect((await home.end()).at(-1)?.type).toBe("run.completed");
});
