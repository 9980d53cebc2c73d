import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { DecoError } from "../../src/protocol/errors.ts";
import type { DockerProviderOptions } from "../../src/sandbox/drivers/docker/docker-options.ts";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import { dockerEngine } from "../../src/sandbox/drivers/docker/engine/engine.ts";
import { ensureImage } from "../../src/sandbox/drivers/docker/image/build-image.ts";
import { processProvider } from "../../src/sandbox/drivers/process/process-provider.ts";
import type { EnsureContext, SandboxProvider } from "../../src/sandbox/provider.ts";
import { CACHE_DIR, quietLog, runInside, skipped } from "../suites/sandbox-provider-suite.ts";
import { dockerObjects } from "../support/docker-objects.ts";
import { engineDoor } from "../support/engine-door.ts";
import { imageThat as makeImageThat } from "../support/image-that.ts";

const signal = AbortSignal.timeout(200_000);
const docker = new Docker({ socketPath: "/var/run/docker.sock", host: "" });
const engineAnswers = await docker.ping().then(
  () => true,
  () => false,
);

describe("docker without an engine", () => {
  const absent = dockerProvider({
    instanceId: "absent",
    runRoot: "/nonexistent",
    cacheDir: CACHE_DIR,
    log: quietLog,
    dockerHost: "unix:///nonexistent/docker.sock",
  });

  test("the probe says what is missing and how to mend it, and never throws", async () => {
    const probe = await absent.probe(signal);
    expect(probe).toMatchObject({ available: false, fix: "Start Docker, then try again." });
    expect(probe.reason).toContain("/nonexistent/docker.sock");
  });

  test("every call is refused as docker_unavailable", async () => {
    const context = { instanceId: "absent", onStage() {} };
    for (const call of [
      () => absent.ensure("x", {}, context, signal),
      () => absent.list(signal),
      () => absent.inspect("x", signal),
      () => absent.remove("x", signal),
      () => absent.endpoint("x", signal),
      () => absent.processesLeft("x", signal),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: "docker_unavailable" });
    }
  });

  test("an engine on another machine is refused: its mounts would not be ours", async () => {
    const remote = dockerProvider({
      instanceId: "remote",
      runRoot: "/nonexistent",
      cacheDir: CACHE_DIR,
      log: quietLog,
      dockerHost: "tcp://192.0.2.1:2375",
    });
    expect((await remote.probe(signal)).reason).toContain("not on this machine");
  });
});

if (!engineAnswers) skipped("docker faults", "no engine", "run `npm run engines`");

describe.skipIf(!engineAnswers)("docker provider", () => {
  const instanceId = `faults${process.pid}`;
  const context: EnsureContext = { instanceId, onStage() {} };
  let runRoot: string;
  const images: string[] = [];

  const make = (more: Partial<DockerProviderOptions> = {}): SandboxProvider =>
    dockerProvider({ instanceId, runRoot, cacheDir: CACHE_DIR, log: quietLog, ...more });

  const left = async () => [
    ...(await dockerObjects(instanceId, docker)).sandboxes,
    ...(await readdir(runRoot)),
  ];

  /** An image of ours that does something else than to start harnessd. */
  const imageThat = async (name: string, command: string) => {
    const tag = await makeImageThat(docker, name, command, signal);
    images.push(tag);
    return tag;
  };

  beforeEach(async () => {
    runRoot = await mkdtemp(join(tmpdir(), "deco-f-"));
  });

  afterEach(async () => {
    for (const { handle } of await make().list(signal)) await make().remove(handle, signal);
    expect(await left()).toEqual([]);
    await make().close?.(signal);
    expect((await dockerObjects(instanceId, docker)).networks).toEqual([]);
    await rm(runRoot, { recursive: true });
  });

  afterAll(async () => {
    for (const tag of images) await docker.getImage(tag).remove({ force: true });
  });

  test("a container has every limit and no right that it does not need (LESSONS 31, 34)", async () => {
    const thread = { ...context, thread: "t1" };
    const info = await make().ensure("hard", { env: { A: "b" } }, thread, signal);
    const { Config, HostConfig, Mounts } = await docker.getContainer(info.id).inspect();
    expect(HostConfig).toMatchObject({
      ReadonlyRootfs: true,
      Init: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges"],
      Memory: 512 * 1024 * 1024,
      MemorySwap: 512 * 1024 * 1024,
      NanoCpus: 1e9,
      PidsLimit: 128,
      Privileged: false,
      RestartPolicy: { Name: "no" },
    });
    expect(Config.User).toMatch(/^[1-9]\d*:/);
    expect(Config.Labels).toMatchObject({
      "dev.deco-link.instance": instanceId,
      "dev.deco-link.handle": "hard",
      "dev.deco-link.thread": "t1",
      "dev.deco-link.rundir": info.runDir,
    });
    expect(Mounts.map((mount) => mount.Destination).toSorted()).toEqual([
      "/run/deco",
      "/workspace",
    ]);
    const token = (await make().endpoint("hard", signal)).token;
    expect(JSON.stringify({ Config, HostConfig })).not.toContain(token);
    const { NetworkSettings } = await docker.getContainer(info.id).inspect();
    expect(Object.values(NetworkSettings.Ports).filter(Boolean)).toEqual([]);
    expect(info.url).toBeUndefined();
  });

  test("an image that is not here is never pulled, and the message says what to do", async () => {
    const work = make().ensure("img", { image: "nowhere.invalid/x:1" }, context, signal);
    const error = await work.then(
      () => undefined,
      (thrown: unknown) => DecoError.from(thrown),
    );
    expect(error).toMatchObject({ code: "image_missing" });
    expect(error?.fix).toMatch(/docker pull --platform linux\/(amd64|arm64) nowhere\.invalid\/x:1/);
    expect(await left()).toEqual([]);
  });

  test("a harnessd that crashes is told with its exit code and its last lines", async () => {
    const image = await imageThat("crash", "echo about to; echo crash >&2; exit 3");
    const work = make().ensure("crash", { image }, context, signal);
    const error = await work.then(
      () => undefined,
      (thrown: unknown) => DecoError.from(thrown),
    );
    expect(error).toMatchObject({ code: "sandbox_failed", extensions: { exitCode: 3 } });
    expect(error?.message).toContain("about to");
    expect(error?.message).toContain("crash");
    expect(await left()).toEqual([]);
  });

  test("a container that runs but never answers is not ready (LESSONS 25)", async () => {
    const image = await imageThat("mute", "sleep 600");
    const work = make({ readyTimeoutMs: 1_000 }).ensure("mute", { image }, context, signal);
    await expect(work).rejects.toMatchObject({ code: "sandbox_failed" });
    expect(await left()).toEqual([]);
  });

  for (const at of ["image", "create", "boot", "ready"]) {
    test(`an engine that stops at stage ${at} is docker_unavailable, and the handle works after it`, async () => {
      await using door = await engineDoor();
      const provider = make({ dockerHost: door.dockerHost });
      let shut: Promise<void> | undefined;
      const onStage = (stage: string) => {
        if (stage === at) shut = door.set("shut");
      };
      const work = provider.ensure("stop", {}, { ...context, onStage }, signal);
      await expect(work).rejects.toMatchObject({ code: "docker_unavailable" });
      await shut;
      await door.set("open");
      const info = await provider.ensure("stop", {}, context, signal);
      expect(info.status).toBe("running");
      expect((await runInside(provider, "stop", "echo back", signal)).output).toBe("back\n");
      await provider.remove("stop", signal);
      expect(await left()).toEqual([]);
    }, 30_000);
  }

  test("an engine that does not answer makes a sandbox unknown, and destroys nothing (LESSONS 27)", async () => {
    await using door = await engineDoor();
    const provider = make({ dockerHost: door.dockerHost, callTimeoutMs: 300 });
    const made = await make().ensure("busy", {}, context, signal);
    await door.set("stuck");
    expect(await provider.inspect("busy", signal)).toMatchObject({ status: "unknown" });
    expect(await provider.list(signal)).toMatchObject([{ handle: "busy", status: "unknown" }]);
    const patient = make({ dockerHost: door.dockerHost });
    const soon = patient.list(AbortSignal.timeout(2_000), { deadlineMs: 300 });
    expect(await soon).toMatchObject([{ handle: "busy", status: "unknown" }]);
    await expect(provider.ensure("busy", {}, context, signal)).rejects.toMatchObject({
      code: "docker_unavailable",
    });
    await expect(provider.remove("busy", signal)).rejects.toMatchObject({
      code: "docker_unavailable",
    });
    await door.set("open");
    const after = await make().inspect("busy", signal);
    expect(after).toMatchObject({ status: "running", id: made.id, startedAt: made.startedAt });
  });

  test("a stopped container is started again with its workspace and its token", async () => {
    const provider = make();
    const made = await provider.ensure("again", {}, context, signal);
    await runInside(provider, "again", "echo kept >/workspace/f", signal);
    await docker.getContainer(made.id).kill();
    expect(await provider.inspect("again", signal)).toMatchObject({ status: "stopped" });
    await expect(provider.endpoint("again", signal)).rejects.toMatchObject({
      code: "sandbox_lost",
    });
    const again = await provider.ensure("again", {}, context, signal);
    expect(again.id).toBe(made.id);
    expect(again.startedAt).not.toBe(made.startedAt);
    expect((await runInside(provider, "again", "cat /workspace/f", signal)).output).toBe("kept\n");
    expect(await provider.processesLeft("again", signal)).toBe(0);
  });

  test("a wiped run directory costs the token, not the workspace", async () => {
    const provider = make();
    const made = await provider.ensure("wiped", {}, context, signal);
    await runInside(provider, "wiped", "echo kept >/workspace/f", signal);
    await rm(join(made.runDir, ".."), { recursive: true });
    await provider.ensure("wiped", {}, context, signal);
    expect((await runInside(provider, "wiped", "cat /workspace/f", signal)).output).toBe("kept\n");
  });

  test.skipIf(process.getuid?.() !== 0)(
    "a confined process of the same handle and run root is another sandbox",
    async () => {
      const plain = processProvider({ instanceId, runRoot, cacheDir: CACHE_DIR, log: quietLog });
      await using removal = new AsyncDisposableStack();
      removal.defer(() => plain.remove("both", signal));
      const [inDocker, inProcess] = await Promise.all([
        make().ensure("both", {}, context, signal),
        plain.ensure("both", {}, context, signal),
      ]);
      expect(inProcess.runDir).not.toBe(inDocker.runDir);
      expect(await make().list(signal)).toHaveLength(1);
      expect(await plain.list(signal)).toHaveLength(1);
      await plain.remove("both", signal);
      expect((await runInside(make(), "both", "echo here", signal)).output).toBe("here\n");
    },
  );

  test("a foreign container of the same name is neither used nor removed", async () => {
    const { tag } = await ensureImage("harnessd", {
      engine: dockerEngine(undefined),
      cacheDir: CACHE_DIR,
      signal,
    });
    const foreign = await docker.createContainer({ name: `deco-${instanceId}-mine`, Image: tag });
    try {
      const refused = { code: "sandbox_failed" };
      await expect(make().ensure("mine", {}, context, signal)).rejects.toMatchObject(refused);
      await expect(make().remove("mine", signal)).rejects.toMatchObject(refused);
      expect((await foreign.inspect()).Id).toBe(foreign.id);
    } finally {
      await foreign.remove({ force: true });
    }
  });
});
