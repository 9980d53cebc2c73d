import { afterAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  refuseTier,
  tierEnvironment,
  tierFacts,
  tierHostConfig,
} from "../../src/sandbox/drivers/docker/container/tiers.ts";
import { type Tier, wantedSandbox } from "../../src/sandbox/sandbox-spec.ts";

const proc = await mkdtemp(join(tmpdir(), "deco-proc-"));
afterAll(() => rm(proc, { recursive: true }));
await mkdir(join(proc, "1"));
await mkdir(join(proc, "sys/kernel"), { recursive: true });

/** A machine whose first process has these capabilities. */
async function machine(bounding: string): Promise<void> {
  await writeFile(join(proc, "1/status"), `Name:\tinit\nCapBnd:\t${bounding}\n`);
  await writeFile(join(proc, "sys/kernel/cap_last_cap"), "40\n");
}

const wanted = (spec: Parameters<typeof wantedSandbox>[0]) =>
  wantedSandbox(spec, "docker", { egress: "open" });

const factsOf = (tier: Tier, from = proc) =>
  tierFacts({ tier, uid: 1000, engineSocket: from, proc: from });

test("tiers 3 and 4 are root on a machine with every capability, and the plain user on one without", async () => {
  await machine("000001ffffffffff");
  expect([await factsOf(1), await factsOf(2)].map(({ user }) => user)).toEqual([1000, 1000]);
  expect([await factsOf(3), await factsOf(4)].map(({ user }) => user)).toEqual([0, 0]);
  await machine("000001fffeffffff");
  expect([await factsOf(3), await factsOf(4)].map(({ user }) => user)).toEqual([1000, 1000]);
  // A laptop without a /proc has its engine in a VM, which has all of them.
  expect((await factsOf(3, "/dev/null")).user).toBe(0);
});

test("harnessd sweeps only where the process ids are the sandbox's own", async () => {
  for (const tier of [1, 2] as const) {
    const facts = await factsOf(tier);
    expect(tierEnvironment(facts)).toEqual(["HARNESS_SWEEP=1"]);
    expect(tierHostConfig(facts).PidMode).toBeUndefined();
  }
  for (const tier of [3, 4] as const) {
    const facts = await factsOf(tier);
    expect(tierEnvironment(facts)).toEqual(["HARNESS_SOCKET_UID=1000", "TINI_SUBREAPER=1"]);
    expect(tierHostConfig(facts).PidMode).toBe("host");
  }
});

test("tier 4 alone has the engine's socket, and the group that may use it", async () => {
  const { gid } = await stat(proc);
  expect(tierHostConfig(await factsOf(4))).toMatchObject({
    GroupAdd: [String(gid)],
    Mounts: [{ Source: proc, Target: "/var/run/docker.sock" }],
  });
  expect(tierHostConfig(await factsOf(3))).not.toHaveProperty("Mounts");
  expect(tierHostConfig(await factsOf(4, "/dev/null/gone"))).not.toHaveProperty("GroupAdd");
});

test("an engine in a VM has no tier 4, and keeps harnessd's own port", () => {
  const refused = expect.objectContaining({ code: "isolation_unavailable" });
  expect(() => refuseTier(wanted({ tier: 4 }), "gateway")).toThrow(refused);
  expect(() => refuseTier(wanted({ ports: [8080] }), "gateway")).toThrow(refused);
  refuseTier(wanted({ tier: 4 }), "socket");
  refuseTier(wanted({ ports: [8080] }), "socket");
  refuseTier(wanted({ tier: 3, ports: [80] }), "gateway");
});

const optionsOf = async (tier: Tier, unconfined: boolean) =>
  tierHostConfig(await tierFacts({ tier, uid: 1000, engineSocket: proc, proc, unconfined }))
    .SecurityOpt;

test("where the engine gives no filter of system calls, tiers 1 and 2 name its default one", async () => {
  for (const tier of [1, 2] as const) {
    expect(await optionsOf(tier, true)).toEqual(["no-new-privileges", "seccomp=builtin"]);
    expect(await optionsOf(tier, false)).toEqual(["no-new-privileges"]);
  }
  expect(await optionsOf(3, true)).toBeUndefined();
});
