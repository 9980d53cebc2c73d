import { afterAll, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { arch, tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { fakeEngine } from "../support/engine-fake.ts";
import { runDeco } from "../support/run-deco.ts";

const home = await mkdtemp(join(tmpdir(), "deco-de-"));
afterAll(() => rm(home, { recursive: true, force: true }));

const Report = z.object({
  checks: z.array(z.looseObject({ id: z.string(), status: z.string(), detail: z.string() })),
});

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
