import { afterAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { arch, tmpdir } from "node:os";
import { join } from "node:path";
import { dockerEngine } from "../../src/sandbox/drivers/docker/engine/engine.ts";
import { probeDocker } from "../../src/sandbox/drivers/docker/engine/probe.ts";
import { fakeEngine } from "../support/engine-fake.ts";

const dir = await mkdtemp(join(tmpdir(), "deco-ep-"));
afterAll(async () => await rm(dir, { recursive: true }));

let engines = 0;

/** Each on a socket of its own: the runtime keeps connections by path, those of an engine before, too. */
async function probeOf(answers: Parameters<typeof fakeEngine>[1]) {
  engines += 1;
  await using engine = await fakeEngine(join(dir, `${engines}.sock`), answers);
  return await probeDocker(dockerEngine(engine), AbortSignal.timeout(10_000));
}

const podman = (version: string, api: string) => ({
  Version: version,
  ApiVersion: api,
  Components: [{ Name: "Podman Engine" }, { Name: "Conmon" }],
});

describe("the probe of an engine", () => {
  test("takes Docker 20.10 and newer, and says which engine it is and what led to it", async () => {
    const probe = await probeOf({ version: { Version: "20.10.24", ApiVersion: "1.41" } });
    expect(probe).toMatchObject({
      available: true,
      version: "20.10.24",
      arch: arch(),
      details: { engine: "docker", foundBy: "the setting docker-host", modelTransport: "socket" },
    });
  });

  test("refuses older ones, and those that tell no API", async () => {
    const old = await probeOf({ version: { Version: "19.03.15", ApiVersion: "1.40" } });
    expect(old).toMatchObject({ available: false, fix: expect.stringContaining("20.10") });
    expect(old.reason).toBe("the engine 19.03.15 (API 1.40) is older than 20.10");
    const strange = await probeOf({ version: { Version: "9", ApiVersion: "" } });
    expect(strange.reason).toContain("API unknown");
  });

  test("knows Podman by its components, not by its count of versions", async () => {
    const probe = await probeOf({ version: podman("4.3.1", "1.41") });
    expect(probe).toMatchObject({ available: true, details: { engine: "podman" } });
    const old = await probeOf({ version: podman("3.0.1", "1.40") });
    expect(old).toMatchObject({ available: false, fix: expect.stringContaining("Podman to 4.0") });
  });

  test("refuses an engine that can't set the limits, and names them", async () => {
    const blind = await probeOf({ info: { MemoryLimit: false, PidsLimit: false } });
    expect(blind.reason).toBe("Docker 27.3.1 can't limit memory, processes here");
    expect(blind.available).toBe(false);
    const rootless = { Rootless: true, SecurityOptions: ["name=seccomp", "name=rootless"] };
    const v1 = await probeOf({
      version: podman("4.3.1", "1.41"),
      info: { ...rootless, CgroupVersion: "1" },
    });
    expect(v1).toMatchObject({ available: false, fix: expect.stringContaining("cgroup v2") });
    expect(v1.reason).toBe("rootless Podman 4.3.1 can't limit memory, CPU, processes here");
    const v2 = await probeOf({ version: podman("4.9.4", "1.41"), info: rootless });
    expect(v2).toMatchObject({ available: true, details: { modelTransport: "gateway" } });
  });

  test("refuses an engine whose containers have no seccomp filter, and none can be asked for", async () => {
    const unconfined = { SecurityOptions: ["name=apparmor", "name=seccomp,profile=unconfined"] };
    const desktop = await probeOf({ info: unconfined });
    // 23.0 and newer give their default profile to who names it.
    expect(desktop).toMatchObject({ available: true, details: { seccomp: "unconfined" } });
    const old = await probeOf({
      version: { Version: "20.10.24", ApiVersion: "1.41" },
      info: unconfined,
    });
    expect(old).toMatchObject({ available: false, fix: expect.stringContaining("daemon.json") });
    expect(old.reason).toContain("seccomp profile unconfined");
    for (const SecurityOptions of [["name=apparmor"], [], null]) {
      const none = await probeOf({ info: { SecurityOptions } });
      expect(none.reason).toBe("Docker 27.3.1 filters no system calls here (seccomp)");
      expect(none.available).toBe(false);
    }
    const podmans = await probeOf({ version: podman("4.9.4", "1.41"), info: unconfined });
    expect(podmans.available).toBe(false);
    for (const profile of ["default", "builtin", "/etc/docker/seccomp.json"]) {
      const SecurityOptions = [`name=seccomp,profile=${profile}`, "name=cgroupns"];
      expect((await probeOf({ info: { SecurityOptions } })).details).toMatchObject({
        seccomp: "profile",
      });
    }
  });

  test("refuses containers of another system and of another processor", async () => {
    expect((await probeOf({ info: { OSType: "windows" } })).reason).toContain("windows containers");
    const Arch = arch() === "x64" ? "arm64" : "amd64";
    expect((await probeOf({ version: { Arch } })).reason).toContain("this machine");
  });
});
