import { expect, test } from "bun:test";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { capabilityTable } from "../../src/daemon/capabilities.ts";
import { harnessCapabilities, laptopHarnesses } from "../../src/daemon/capabilities-harness.ts";
import { virtualboxProbe } from "../../src/daemon/capabilities-programs.ts";
import type { Capability } from "../../src/protocol/messages.ts";
import { testHome } from "../support/control-home.ts";

const never = new AbortController().signal;
const there = { name: "docker", available: true };
const gone = { name: "docker", available: false, reason: "no answer" };

test("one miss takes nothing away, two do, one success brings it back (LESSONS 12)", async () => {
  const answers: Capability[] = [there, gone, there, gone, gone, there];
  let changes = 0;
  const table = capabilityTable({
    probes: [{ name: "docker", probe: async () => answers.shift() ?? gone }],
    onChange: () => {
      changes += 1;
    },
  });
  expect(table.available("docker")).toBe(false);
  const seen: boolean[] = [];
  while (answers.length > 0) {
    await table.refresh(never);
    seen.push(table.available("docker"));
  }
  expect(seen).toEqual([true, true, true, true, false, true]);
  expect(changes).toBe(3);
});

test("a probe that hangs or throws is a miss with its reason, and holds up no other", async () => {
  const table = capabilityTable({
    probes: [
      { name: "hangs", probe: () => new Promise(() => {}) },
      { name: "throws", probe: () => Promise.reject(new Error("boom")) },
      { name: "docker", probe: async () => there },
    ],
    deadlineMs: 20,
  });
  expect(await table.refresh(never)).toEqual([
    { name: "hangs", available: false, reason: "no answer within 20 ms" },
    { name: "throws", available: false, reason: "Error: boom" },
    there,
  ]);
});

test("looks that were given up change nothing, and concurrent ones share one round", async () => {
  let rounds = 0;
  const table = capabilityTable({
    probes: [
      {
        name: "docker",
        probe: async () => {
          rounds += 1;
          return there;
        },
      },
    ],
  });
  await Promise.all([table.refresh(never), table.refresh(never)]);
  expect(rounds).toBe(1);
  await table.refresh(AbortSignal.abort());
  expect(table.available("docker")).toBe(true);
});

test("virtualbox: not there, there but silent, there and answering", async () => {
  await using home = await testHome();
  const env = { PATH: home.dir };
  const probe = () => virtualboxProbe({ env, places: [] }).probe(never);
  expect(await probe()).toMatchObject({ available: false, fix: "Install VirtualBox 7." });
  await program(home.dir, "VBoxManage", "echo kernel driver is missing >&2; exit 1");
  expect(await probe()).toMatchObject({
    available: false,
    reason: expect.stringContaining("--version"),
  });
  await program(home.dir, "VBoxManage", "echo 7.2.4r170995");
  expect(await probe()).toMatchObject({ version: "7.2.4r170995", arch: process.arch });
  const elsewhere = { env: { PATH: "" }, places: [join(home.dir, "VBoxManage")] };
  expect(await virtualboxProbe(elsewhere).probe(never)).toMatchObject({ version: "7.2.4r170995" });
});

test("agents on the laptop: installed, version, signed in", async () => {
  await using home = await testHome();
  const env = { PATH: `${home.dir}:/bin:/usr/bin`, HOME: home.dir };
  await program(home.dir, "claude", "echo '2.1.197 (Claude Code)'");
  await mkdir(join(home.dir, ".claude"));
  await writeFile(join(home.dir, ".claude", ".credentials.json"), "{}");
  const found = await laptopHarnesses({ ...env, PATH: home.dir }, never);
  expect(found.claude).toEqual({ installed: true, signedIn: true, version: "2.1.197" });
  expect(found.codex).toEqual({ installed: false, signedIn: false });
});

test("a harness is available only when a run would work; else it says why and what to do", () => {
  const models = { anthropic: { baseUrl: "http://127.0.0.1:1", apiKey: "k" } };
  const laptop = undefined;
  expect(names({ providers: [there], laptop, models })).toEqual(["shell", "claude-code"]);
  expect(names({ providers: [there], laptop, models: {} })).toEqual(["shell"]);
  const process = { name: "process", available: true };
  expect(names({ providers: [gone, process], laptop, models })).toEqual(["shell"]);
  expect(names({ providers: [gone], laptop, models })).toEqual([]);
  for (const capability of harnessCapabilities({ providers: [gone], laptop, models })) {
    expect(capability).toMatchObject({ reason: expect.any(String), fix: expect.any(String) });
  }
});

test("codex is told as what it lacks: an adapter, not an image, which `deco image build codex` makes", () => {
  const laptop = undefined;
  const codex = harnessCapabilities({ providers: [], laptop, models: {} }).find(
    ({ name }) => name === "codex",
  );
  expect(codex).toMatchObject({ available: false, reason: expect.stringContaining("adapter") });
});

function names(facts: Parameters<typeof harnessCapabilities>[0]): string[] {
  return harnessCapabilities(facts)
    .filter((capability) => capability.available)
    .map(({ name }) => name);
}

async function program(dir: string, name: string, script: string): Promise<void> {
  await writeFile(join(dir, name), `#!/bin/sh\n${script}\n`);
  await chmod(join(dir, name), 0o755);
}
