import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pack } from "tar-stream";
import { DecoError } from "../../src/protocol/errors.ts";
import { checkEmulation } from "../../src/sandbox/drivers/docker/life/preflight.ts";
import type { ResolvedSpec } from "../../src/sandbox/sandbox-spec.ts";
import { CACHE_DIR } from "../suites/sandbox-provider-suite.ts";
import { dockerLab } from "../support/docker-lab.ts";
import { mountSmall, unmounted } from "../support/e2e-engine.ts";
import { isSkipped } from "../support/engines.ts";
import { imageThat } from "../support/image-that.ts";
import { startRegistry } from "../support/registry.ts";

const lab = await dockerLab("preflight");
const signal = AbortSignal.timeout(280_000);
const images: string[] = [];

const failureOf = async (spec: ResolvedSpec, more: Parameters<typeof lab.make>[0] = {}) =>
  await lab
    .make(more)
    .ensure("pre", spec, lab.context, signal)
    .then(
      () => undefined,
      (thrown: unknown) => DecoError.from(thrown),
    );

const nothingLeft = async () => {
  expect((await lab.objects()).sandboxes).toEqual([]);
  expect(await readdir(lab.runRoot)).toEqual([]);
};

afterEach(async () => {
  const provider = lab.make();
  for (const { handle } of await provider.list(signal)) await provider.remove(handle, signal);
});

afterAll(async () => {
  for (const tag of images) await lab.docker.getImage(tag).remove({ force: true });
});

test("an engine older than 20.10 is refused with where to get a newer one", async () => {
  const dir = await mkdtemp(join(tmpdir(), "deco-old-"));
  const answers: Readonly<Record<string, unknown>> = {
    "/_ping": "OK",
    "/version": { Version: "19.03.15", ApiVersion: "1.40", Arch: "amd64", Os: "linux" },
    "/info": { OSType: "linux" },
  };
  const server = createServer((request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(answers[request.url ?? ""] ?? {}));
  });
  await new Promise<void>((resolve) => server.listen(join(dir, "d.sock"), resolve));
  try {
    const provider = lab.make({ dockerHost: `unix://${dir}/d.sock` });
    const probe = await provider.probe(signal);
    expect(probe).toMatchObject({ available: false, version: "19.03.15" });
    expect(probe.reason).toContain("older than 20.10");
    expect(probe.fix).toContain("docs.docker.com");
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(dir, { recursive: true });
  }
});

test("a platform that nothing here emulates is refused with the command that installs it", async () => {
  const folder = await mkdtemp(join(tmpdir(), "deco-binfmt-"));
  const other = process.arch === "arm64" ? "linux/amd64" : "linux/arm64";
  const own = process.arch === "arm64" ? "linux/arm64" : "linux/amd64";
  try {
    await checkEmulation(own, folder);
    const refused = await checkEmulation(other, folder).then(
      () => undefined,
      (thrown: unknown) => DecoError.from(thrown),
    );
    expect(refused?.code).toBe("isolation_unavailable");
    expect(refused?.fix).toContain("docker run --privileged --rm tonistiigi/binfmt --install");
    const name = other === "linux/arm64" ? "qemu-aarch64" : "qemu-x86_64";
    await writeFile(join(folder, name), "disabled\n");
    await expect(checkEmulation(other, folder)).rejects.toThrow(other);
    await writeFile(join(folder, name), "enabled\ninterpreter /usr/bin/qemu\n");
    await checkEmulation(other, folder);
  } finally {
    await rm(folder, { recursive: true });
  }
});

describe.skipIf(!lab.available)("before anything is made", () => {
  test("an engine whose disk is full is told with what frees it", async () => {
    const failure = await failureOf({}, { engineDiskMib: 1_000_000_000 });
    expect(failure?.code).toBe("storage_failed");
    expect(failure?.message).toMatch(/has \d+ MiB free, a sandbox needs 1000000000/);
    expect(failure?.fix).toContain("docker system prune");
    await nothingLeft();
  });

  test.skipIf(process.getuid?.() !== 0)(
    "a run root without room is told with its path",
    async () => {
      const runRoot = join(lab.runRoot, "small");
      await mountSmall(runRoot, 4);
      try {
        const failure = await failureOf({}, { runRoot });
        expect(failure?.code).toBe("storage_failed");
        expect(failure?.fix).toContain(`du -sh ${runRoot}`);
        expect((await lab.objects()).sandboxes).toEqual([]);
      } finally {
        await unmounted(runRoot);
        await rm(runRoot, { recursive: true, force: true });
      }
    },
  );

  test("a required file that nobody brings is refused with its name", async () => {
    const requires = { env: [], files: ["conf/agent.toml"] };
    const failure = await failureOf({ facts: { requires } });
    expect(failure?.code).toBe("config_missing");
    expect(failure?.message).toContain("conf/agent.toml must be in the workspace");
    expect(failure?.fix).toContain("deco template show");
    await nothingLeft();
  });

  test("a workspace that lost a required file is refused at the next start, not started in a loop", async () => {
    const provider = lab.make();
    const made = await provider.ensure("pre", {}, lab.context, signal);
    const requires = { env: [], files: ["agent.toml"] };
    await lab.docker.getContainer(made.id).kill();
    const failure = await failureOf({ facts: { requires } });
    expect(failure?.code).toBe("config_missing");
    const { State } = await lab.docker.getContainer(made.id).inspect();
    expect(State.Running).toBe(false);
    const exec = async (script: string) => {
      await provider.ensure("pre", {}, lab.context, signal);
      const run = await lab.docker
        .getContainer(made.id)
        .exec({ Cmd: ["/bin/sh", "-c", script], AttachStdout: true });
      const stream = await run.start({});
      await new Promise((resolve) => stream.resume().once("end", resolve));
      await lab.docker.getContainer(made.id).kill();
    };
    await exec("echo a >/workspace/agent.toml");
    expect(await failureOf({ facts: { requires } })).toBeUndefined();
  }, 30_000);

  test("a container that ends at once is started three times, then told with code and last lines", async () => {
    const script = "for n in $(busybox seq 1 30); do echo line $n; done; exit 3";
    const image = await imageThat(lab.docker, "loop", script, signal);
    images.push(image);
    const failure = await failureOf({ image });
    expect(failure?.code).toBe("sandbox_failed");
    expect(failure?.message).toContain("exit code 3 before it was ready, 3 times in a row");
    expect(failure?.extensions).toMatchObject({ exitCode: 3, tries: 3 });
    const lines = String(failure?.extensions["log"]).split("\n");
    expect(lines).toHaveLength(20);
    expect(lines.at(-1)).toBe("line 30");
    await nothingLeft();
  }, 30_000);

  test("one that runs without harnessd is told with its last lines, and what an image needs", async () => {
    const image = await imageThat(lab.docker, "silent", "echo not harnessd; sleep 60", signal);
    images.push(image);
    const failure = await failureOf({ image, facts: { readyBudgetMs: 2_000 } });
    expect(failure?.code).toBe("sandbox_failed");
    expect(failure?.message).toContain("did not answer within 2000 ms: not harnessd");
    expect(failure?.fix).toContain("starts harnessd");
    await nothingLeft();
  }, 30_000);

  test("what the engine can't give is refused with what to ask for instead, not as a sandbox to remove", async () => {
    const failure = await failureOf({ resources: { cpus: 1024 } });
    expect(failure?.code).toBe("isolation_unavailable");
    expect(failure?.message).toContain("CPUs");
    expect(failure?.fix).toContain("resources");
    const provider = lab.make();
    await provider.probe(signal);
    const ensured = provider.ensure(
      "pre",
      { resources: { memoryMib: 1_048_576 } },
      lab.context,
      signal,
    );
    const much = DecoError.from(await ensured.catch((thrown: unknown) => thrown));
    expect(much.code).toBe("isolation_unavailable");
    expect(much.message).toMatch(/^1048576 MiB of memory on a machine of \d+ MiB$/);
    expect(much.fix).toContain("resources.memoryMib");
    const empty = pack();
    empty.finalize();
    const image = `deco-link-test/empty:${process.pid}`;
    const [repo = "", tag = ""] = image.split(":");
    const output = await lab.docker.importImage(Readable.from(empty), { repo, tag });
    await new Promise((resolve) => output.resume().once("end", resolve));
    images.push(image);
    const idle = await failureOf({ image });
    expect(idle?.code).toBe("isolation_unavailable");
    expect(idle?.fix).toContain("starts harnessd");
    await nothingLeft();
  });

  test("an image's id that is not here is asked of no registry, and the fix is no pull", async () => {
    const stages: string[] = [];
    const context = { ...lab.context, onStage: (stage: string) => void stages.push(stage) };
    const image = `sha256:${"a".repeat(64)}`;
    const ensured = lab.make().ensure("pre", { image, facts: { pull: true } }, context, signal);
    const failure = DecoError.from(await ensured.catch((thrown: unknown) => thrown));
    expect(failure.code).toBe("image_missing");
    expect(failure.fix).toContain("docker load");
    expect(stages).not.toContain("pull");
    await nothingLeft();
  });

  test("an image that a template pins is pulled once and runs; what a request names never is", async () => {
    await using registry = await startRegistry(CACHE_DIR);
    if (isSkipped("docker-registry of Debian", registry !== undefined) || !registry) return;
    const name = `${registry.address}/pinned`;
    const made = await imageThat(lab.docker, "pin", "exec /usr/local/bin/harnessd", signal);
    await lab.docker.getImage(made).tag({ repo: name, tag: "1" });
    const pushed = await lab.docker.getImage(`${name}:1`).push({ authconfig: {} });
    await new Promise((resolve) => lab.docker.modem.followProgress(pushed, resolve));
    const { RepoDigests } = await lab.docker.getImage(made).inspect();
    const image = RepoDigests.find((one) => one.startsWith(name)) ?? "";
    for (const tag of [made, `${name}:1`]) await lab.docker.getImage(tag).remove({ force: true });
    expect(await failureOf({ image })).toMatchObject({
      code: "image_missing",
      fix: expect.stringContaining(`docker pull --platform`),
    });
    const stages: string[] = [];
    const context = { ...lab.context, onStage: (stage: string) => void stages.push(stage) };
    const ensure = () =>
      lab.make().ensure("pre", { image, facts: { pull: true } }, context, signal);
    const info = await ensure();
    images.push(image);
    expect(info).toMatchObject({ status: "running", image, imageDigest: image.split("@")[1] });
    expect(stages.filter((stage) => stage === "pull")).toHaveLength(1);
    await lab.make().remove("pre", signal);
    await ensure();
    expect(stages.filter((stage) => stage === "pull")).toHaveLength(1);
  }, 60_000);

  test("one that comes up at the second try is ready", async () => {
    const script =
      "[ -e /workspace/tried ] && exec /usr/local/bin/harnessd; touch /workspace/tried; exit 1";
    const image = await imageThat(lab.docker, "second", script, signal);
    images.push(image);
    const info = await lab.make().ensure("pre", { image }, lab.context, signal);
    expect(info.status).toBe("running");
  }, 30_000);

  test("one that ends for lack of memory says so, with its limit and the setting", async () => {
    const image = await imageThat(lab.docker, "oom", "busybox tail /dev/zero", signal);
    images.push(image);
    const failure = await failureOf({ image, resources: { memoryMib: 64 } });
    expect(failure?.code).toBe("out_of_memory");
    expect(failure?.message).toContain("ran out of memory (its limit is 64 MiB)");
    expect(failure?.fix).toContain("sandbox.resources.memoryMib, such as 128");
    await nothingLeft();
  }, 30_000);
});
