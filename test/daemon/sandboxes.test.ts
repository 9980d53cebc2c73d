import { expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { whatStays } from "../../src/commands/drain.ts";
import { closeSandboxes } from "../../src/daemon/close-sandboxes.ts";
import { silentLog } from "../../src/daemon/log.ts";
import { createSandboxes } from "../../src/daemon/sandboxes.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import type { ProviderName } from "../../src/protocol/messages.ts";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import { ChildProvider } from "../support/child-provider.ts";
import { playedProvider } from "../support/control-provider.ts";

const never = new AbortController().signal;
const context = { instanceId: "test12", onStage: () => {} };

function sandboxes(o: { busy?: boolean; seen?: readonly ProviderName[] } = {}) {
  const docker = playedProvider("docker");
  const process = playedProvider("process");
  const providers = new Map<ProviderName, SandboxProvider>([
    ["docker", docker],
    ["process", process],
  ]);
  const all = createSandboxes({
    providers,
    endRuns: () => Promise.resolve(),
    mayHold: (name) => (o.seen ?? ["docker", "process"]).includes(name),
    busy: () => o.busy ?? false,
    ensure: (handle, spec, { signal }) => docker.ensure(handle, spec, context, signal),
    remove: (provider, handle, signal) => provider.remove(handle, signal),
  });
  return { all, docker, process };
}

test("a sandbox with a run in it is removed only by force", async () => {
  const { all, docker } = sandboxes({ busy: true });
  await all.ensure("box", {}, { local: true, signal: never });
  const refused = all.remove("box", { force: false }, never);
  await expect(refused).rejects.toMatchObject({
    code: "sandbox_busy",
    info: { status: 409 },
    fix: expect.stringMatching(/`deco runs cancel ID`.*--force/),
  });
  expect(docker.boxes.size).toBe(1);
  await all.remove("box", { force: true }, never);
  expect(docker.boxes.size).toBe(0);
});

test("a sandbox is found whichever provider made it, also while another one is down", async () => {
  const { all, docker, process } = sandboxes();
  await process.ensure("mine", {}, context, never);
  docker.down = new DecoError("docker_unavailable", "no answer");
  expect(await all.inspect("mine", never)).toMatchObject({ provider: "process" });
  expect((await all.list(never)).sandboxes.map(({ handle }) => handle)).toEqual(["mine"]);
});

test("a program for a sandbox whose engine does not answer is told so; for one that stopped, what starts it", async () => {
  const { all, docker } = sandboxes();
  const info = await docker.ensure("box", {}, context, never);
  const run = () => all.exec("box", ["true"], never);
  docker.boxes.set("box", { ...info, status: "unknown" });
  await expect(run()).rejects.toMatchObject({ code: "docker_unavailable" });
  docker.boxes.set("box", { ...info, status: "stopped" });
  await expect(run()).rejects.toMatchObject({
    code: "sandbox_lost",
    fix: expect.stringContaining("Start a run"),
  });
});

test("a list waits a second or so for an engine that hangs, and names it", async () => {
  const { all, docker, process } = sandboxes();
  await process.ensure("mine", {}, context, never);
  docker.list = () => new Promise(() => undefined);
  const started = performance.now();
  const { sandboxes: found, errors } = await all.list(never);
  expect(performance.now() - started).toBeLessThan(3_000);
  expect(found.map(({ handle }) => handle)).toEqual(["mine"]);
  expect(errors).toMatchObject([{ provider: "docker", code: "docker_unavailable" }]);
  expect(errors[0]?.fix).not.toBe("");
  const without = sandboxes({ seen: ["process"] });
  without.docker.down = new DecoError("docker_unavailable", "no answer");
  expect(await without.all.list(never)).toEqual({ sandboxes: [], errors: [] });
});

test("'there is none' is said only when every provider that may hold it has answered", async () => {
  const down = new DecoError("docker_unavailable", "no answer");
  const unsure = sandboxes();
  unsure.docker.down = down;
  const unknown = unsure.all.remove("box", { force: false }, never);
  await expect(unknown).rejects.toMatchObject({ code: "docker_unavailable" });
  const sure = sandboxes({ seen: ["process"] });
  sure.docker.down = down;
  await sure.all.remove("box", { force: false }, never);
  await expect(sure.all.inspect("box", never)).rejects.toMatchObject({ code: "sandbox_not_found" });
});

test("a clean stop removes idle sandboxes without a thread, and empties the others but where a run works", async () => {
  const provider = playedProvider("docker");
  const killed: string[] = [];
  provider.killProcesses = async (handle) => {
    killed.push(handle);
    return handle === "stubborn" ? 1 : 0;
  };
  const idle = `r-${"0".repeat(16)}`;
  const busy = `r-${"1".repeat(16)}`;
  const thread = `t-${"2".repeat(16)}`;
  for (const handle of [idle, busy, thread, "stubborn"]) {
    await provider.ensure(handle, {}, context, never);
  }
  const kept = await close(provider, busy);
  expect([...provider.boxes.keys()]).toEqual([busy, thread, "stubborn"]);
  expect(killed).toEqual([thread, "stubborn"]);
  expect(kept).toEqual([
    { handle: busy, goesOn: "run" },
    { handle: thread },
    { handle: "stubborn", goesOn: "unknown" },
  ]);
});

test("a provider that can stops what a clean stop leaves, and the run's sandbox goes on", async () => {
  const provider = playedProvider("process");
  const stopped: string[] = [];
  provider.stop = async (handle) => {
    if (handle === "broken") throw new DecoError("sandbox_failed", "no");
    stopped.push(handle);
  };
  const [busy, thread] = [`r-${"1".repeat(16)}`, `t-${"2".repeat(16)}`];
  for (const handle of [busy, thread, "broken"]) await provider.ensure(handle, {}, context, never);
  const kept = await close(provider, busy);
  expect(stopped).toEqual([thread]);
  expect(kept).toEqual([
    { handle: busy, goesOn: "run" },
    { handle: thread },
    { handle: "broken", goesOn: "unknown" },
  ]);
});

test("what a thread's command left running ends with a clean stop, its files stay", async () => {
  await using provider = new ChildProvider();
  const thread = `t-${"2".repeat(16)}`;
  await provider.ensure(thread);
  const { harnessd } = provider.get(thread);
  const prompt = "echo kept > file; setsid sleep 600 >/dev/null 2>&1 &";
  const id = await harnessd.createRun({ prompt });
  await harnessd.until(id, ({ type }) => type === "run.completed");
  expect(await provider.processesLeft(thread)).toBe(1);
  expect(await close(provider, "")).toEqual([{ handle: thread }]);
  expect(await provider.processesLeft(thread)).toBe(0);
  expect(await readFile(join(harnessd.workspace, "file"), "utf8")).toBe("kept\n");
});

test("the last line of a stop names what stays, what goes on in it, and how to remove it", () => {
  expect(whatStays([])).toBeUndefined();
  expect(whatStays([{ handle: "t-1" }])).toMatch(
    /^1 sandbox stays with its files \(nothing runs in it\).*rm t-1$/,
  );
  const kept = [{ handle: "t-1" }, { handle: "t-2", goesOn: "run" as const }];
  expect(whatStays(kept)).toMatch(
    /^2 sandboxes stay with their files .*still at work: t-2\).*rm t-1 t-2$/,
  );
});

test("an engine that is down holds up no stop", async () => {
  const provider = playedProvider("docker");
  provider.down = new DecoError("docker_unavailable", "no answer");
  expect(await close(provider, "")).toEqual([]);
});

function close(provider: SandboxProvider, busy: string) {
  return closeSandboxes({
    providers: [provider],
    busy: (handle) => handle === busy,
    remove: (from, handle, signal) => from.remove(handle, signal),
    log: silentLog,
  });
}
