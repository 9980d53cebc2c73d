import { afterAll, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { arch, tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import type { EngineFacts } from "../../src/sandbox/drivers/docker/engine/engine-facts.ts";
import { markOf } from "../../src/sandbox/drivers/docker/engine/engine-mark.ts";
import { fakeEngine } from "../support/engine-fake.ts";
import { runDeco } from "../support/run-deco.ts";

const home = await mkdtemp(join(tmpdir(), "deco-de-"));
afterAll(() => rm(home, { recursive: true, force: true }));

const Report = z.object({
  checks: z.array(z.looseObject({ id: z.string(), status: z.string(), detail: z.string() })),
});

const FACTS: EngineFacts = {
  kind: "docker",
  version: "27.3.1",
  api: "1.47",
  arch: "amd64",
  os: "Debian GNU/Linux 12",
  osType: "linux",
  rootless: false,
  rootDir: "/var/lib/docker",
  id: "",
  kernel: "",
  seccomp: "profile",
  memoryMib: 16_000,
  missingLimits: [],
};

async function dockerCheck(env: Record<string, string>) {
  const { stdout } = await runDeco(["doctor", "--json"], { home, env });
  return Report.parse(JSON.parse(stdout)).checks.find(({ id }) => id === "docker");
}

test("the doctor says which engine is taken, and which context or variable led to it", async () => {
  const path = join(home, "podman.sock");
  const Components = [{ Name: "Podman Engine" }];
  await using engine = await fakeEngine(path, { version: { Version: "5.4.2", Components } });
  const id = createHash("sha256").update("pod").digest("hex");
  const meta = join(home, "contexts/meta", id);
  await mkdir(meta, { recursive: true });
  const Endpoints = { docker: { Host: engine.dockerHost } };
  await writeFile(join(meta, "meta.json"), JSON.stringify({ Name: "pod", Endpoints }));
  const config = { DOCKER_CONFIG: home, DOCKER_HOST: "" };
  expect(await dockerCheck({ ...config, DOCKER_CONTEXT: "pod" })).toMatchObject({
    status: "ok",
    detail: `Podman 5.4.2 ${arch()} at ${path} (the Docker context pod of DOCKER_CONTEXT)`,
  });
  expect(await dockerCheck({ ...config, DOCKER_HOST: engine.dockerHost })).toMatchObject({
    detail: expect.stringContaining(`at ${path} (DOCKER_HOST)`),
  });
  const refused = await dockerCheck({ ...config, DOCKER_HOST: "ssh://box" });
  expect(refused?.detail).toContain("the engine at ssh://box (DOCKER_HOST) is not on this machine");
});

test("the doctor says which engine was last used, and that another one answers now", async () => {
  const own = join(home, "last-home");
  const check = async (host: string) => {
    const env = { DOCKER_HOST: host, DOCKER_CONFIG: home };
    const { stdout } = await runDeco(["doctor", "--json"], { home: own, env });
    return Report.parse(JSON.parse(stdout)).checks.find(({ id }) => id === "last-engine");
  };
  await using one = await fakeEngine(join(home, "one.sock"), { info: { ID: "ONE" } });
  await using two = await fakeEngine(join(home, "two.sock"), { info: { ID: "TWO" } });
  expect(await check(one.dockerHost)).toMatchObject({ status: "skip" });
  const mark = markOf({ ...FACTS, id: "ONE" });
  const used = { mark, address: one.path, usedAt: "2026-11-21T10:00:00Z" };
  const path = join(own, "state/engines.json");
  await writeFile(path, JSON.stringify({ engines: [used] }), { mode: 0o600 });
  const box = join(own, "run/s/0123456789");
  await mkdir(box, { recursive: true });
  const record = {
    handle: "h",
    provider: "docker",
    token: "t",
    createdAt: "",
    specHash: "",
    uid: 0,
  };
  const text = JSON.stringify({ ...record, extra: { engine: mark } });
  await writeFile(join(box, "sandbox.json"), text, { mode: 0o600 });
  expect(await check(one.dockerHost)).toMatchObject({
    status: "ok",
    detail: `${one.path}, 2026-11-21T10:00:00Z`,
  });
  const differs = await check(two.dockerHost);
  expect(differs).toMatchObject({ status: "warn", fix: expect.stringContaining("--docker-host") });
  expect(differs?.detail).toContain(`at ${two.path}, is another`);
  expect(differs?.detail).toContain("the 1 sandboxes that were made there");
  const down = await check(`unix://${join(home, "gone.sock")}`);
  expect(down).toMatchObject({ status: "warn", detail: expect.stringContaining(one.path) });
});

test("Podman's ID, another one with each question, makes it no other engine", () => {
  const podman = { ...FACTS, kind: "podman" as const };
  expect(markOf({ ...podman, id: "a" })).toBe(markOf({ ...podman, id: "b" }));
  expect(markOf({ ...FACTS, id: "a" })).not.toBe(markOf({ ...FACTS, id: "b" }));
  expect(markOf({ ...FACTS, rootDir: "/a" })).not.toBe(markOf({ ...FACTS, rootDir: "/b" }));
});
