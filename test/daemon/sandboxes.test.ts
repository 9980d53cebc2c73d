import { expect, test } from "bun:test";
import { removeIdleSandboxes } from "../../src/daemon/close-sandboxes.ts";
import { silentLog } from "../../src/daemon/log.ts";
import { createSandboxes } from "../../src/daemon/sandboxes.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import type { ProviderName } from "../../src/protocol/messages.ts";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import { type PlayedProvider, playedProvider } from "../support/control-provider.ts";

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
    ensure: (handle, spec, signal) => docker.ensure(handle, spec, context, signal),
    remove: (provider, handle, signal) => provider.remove(handle, signal),
  });
  return { all, docker, process };
}

test("a sandbox with a run in it is removed only by force", async () => {
  const { all, docker } = sandboxes({ busy: true });
  await all.ensure("box", {}, never);
  const refused = all.remove("box", { force: false }, never);
  await expect(refused).rejects.toMatchObject({ code: "sandbox_busy", info: { status: 409 } });
  expect(docker.boxes.size).toBe(1);
  await all.remove("box", { force: true }, never);
  expect(docker.boxes.size).toBe(0);
});

test("a sandbox is found whichever provider made it, also while another one is down", async () => {
  const { all, docker, process } = sandboxes();
  await process.ensure("mine", {}, context, never);
  docker.down = new DecoError("docker_unavailable", "no answer");
  expect(await all.inspect("mine", never)).toMatchObject({ provider: "process" });
  expect((await all.list(never)).map(({ handle }) => handle)).toEqual(["mine"]);
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

test("a clean stop removes idle sandboxes without a thread, and nothing else", async () => {
  const provider = playedProvider("docker");
  const idle = `r-${"0".repeat(16)}`;
  const busy = `r-${"1".repeat(16)}`;
  const thread = `t-${"2".repeat(16)}`;
  for (const handle of [idle, busy, thread, "by-hand"]) {
    await provider.ensure(handle, {}, context, never);
  }
  await removeIdle(provider, busy);
  expect([...provider.boxes.keys()]).toEqual([busy, thread, "by-hand"]);
});

test("an engine that is down holds up no stop", async () => {
  const provider = playedProvider("docker");
  provider.down = new DecoError("docker_unavailable", "no answer");
  await removeIdle(provider, "");
});

function removeIdle(provider: PlayedProvider, busy: string): Promise<void> {
  return removeIdleSandboxes({
    providers: [provider],
    busy: (handle) => handle === busy,
    remove: (from, handle, signal) => from.remove(handle, signal),
    log: silentLog,
  });
}
