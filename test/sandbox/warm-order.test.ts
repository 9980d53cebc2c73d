import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dockerEngine } from "../../src/sandbox/drivers/docker/engine/engine.ts";
import { probeAndNote, type Seen } from "../../src/sandbox/drivers/docker/job.ts";
import { orderOf, whyNone } from "../../src/sandbox/drivers/docker/warm/warm-lease.ts";
import { type ResolvedSpec, wantedSandbox } from "../../src/sandbox/sandbox-spec.ts";
import { fakeEngine } from "../support/engine-fake.ts";

const signal = AbortSignal.timeout(20_000);
const context = { instanceId: "i", onStage() {} };
const wantedOf = (spec: ResolvedSpec) => wantedSandbox(spec, "docker", { egress: "open" });
const fresh = (): Seen => ({ tags: new Map(), digests: new Map() });

/** What is made ahead for this spec, on an engine of which so much is known. */
const orderFor = (spec: ResolvedSpec, seen: Seen = { ...fresh(), transport: "socket" }) =>
  orderOf({ setup: { seen }, wanted: wantedOf(spec), context }, seen.transport);

test("what the probe says of the engine decides: on Podman, and where no socket reaches, nothing is made ahead", async () => {
  const dir = await mkdtemp(join(tmpdir(), "deco-wo-"));
  const podman = { Version: "4.9.4", Components: [{ Name: "Podman Engine" }] };
  const byPorts = "none are made where the engine's containers are reached by ports alone";
  const engines = [
    [{}, undefined],
    [{ version: podman }, "none are made on Podman"],
    [{ info: { OperatingSystem: "Docker Desktop" } }, byPorts],
    [{ info: { SecurityOptions: ["name=seccomp,profile=default", "name=rootless"] } }, byPorts],
  ] as const;
  for (const [at, [answers, reason]] of engines.entries()) {
    await using fake = await fakeEngine(join(dir, `${at}.sock`), answers);
    const seen = fresh();
    expect(await probeAndNote({ engine: dockerEngine(fake), seen }, signal)).toMatchObject({
      available: true,
    });
    expect(orderFor({}, seen) === undefined).toBe(reason !== undefined);
    expect(whyNone({ seen })).toBe(reason);
  }
  await rm(dir, { recursive: true });
});

test("leases of one container share a spare, whatever comes in after the start", () => {
  const plain = orderFor({})?.key;
  const file = { text: "x", mode: "0644" };
  const git = { mode: "git", url: "https://example.org/r.git" } as const;
  for (const spec of [
    { env: { A: "1" } },
    { facts: { files: { f: file }, requires: { env: [], files: ["f"] } } },
    { workspace: git },
    { workspace: { mode: "archive" } },
  ] as const) {
    expect(orderFor(spec)?.key).toBe(plain ?? "");
  }
  const others = [
    { image: "sha256:1" },
    { tier: 1 },
    { egress: "none" },
    { resources: { memoryMib: 256 } },
    { resources: { cpus: 2 } },
    { resources: { pids: 64 } },
    { facts: { build: "all" } },
    { facts: { labels: ["haskell"] } },
    { facts: { platform: "linux/arm64" } },
  ] as const;
  const keys = others.map((spec: ResolvedSpec) => orderFor(spec)?.key);
  expect(new Set([plain, ...keys]).size).toBe(others.length + 1);
  expect(keys).not.toContain(undefined);
});

test("what holds something of its thread, or of the host, is not made ahead", () => {
  const thread = { network: { thread: true }, facts: { threadKey: "00" } } as const;
  const folder = { mode: "read_only", path: "/srv" } as const;
  for (const spec of [{ ports: [80] }, thread, { workspace: folder }, { tier: 3 }, { tier: 4 }]) {
    expect(orderFor(spec as ResolvedSpec)).toBeUndefined();
  }
});
