import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { checkEmulation } from "../../src/sandbox/drivers/docker/life/preflight.ts";
import { dockerAnswers, isSkipped } from "../support/engines.ts";
import { runDeco } from "../support/run-deco.ts";

const Report = z.object({
  checks: z.array(
    z.object({
      id: z.string(),
      status: z.string(),
      detail: z.string(),
      fix: z.string().optional(),
    }),
  ),
});

let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "deco-doc-"));
});
afterAll(() => rm(home, { recursive: true, force: true }));

const check = async (id: string, template?: object) => {
  const folder = join(home, "templates");
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  if (template !== undefined) {
    await writeFile(join(folder, "mine.json"), JSON.stringify({ version: 1, ...template }));
  }
  const { stdout } = await runDeco(["doctor", "--json"], { home });
  return Report.parse(JSON.parse(stdout)).checks.find((one) => one.id === id);
};

describe.skipIf(isSkipped("Docker engine", await dockerAnswers()))("the doctor", () => {
  test("names the disks of engine and runtime folder, and skips templates where there are none", async () => {
    expect(await check("sandbox-disk")).toMatchObject({
      status: "ok",
      detail: expect.stringContaining(join(home, "run")),
    });
    expect(await check("template-needs")).toMatchObject({ status: "skip" });
  });

  test("knows a required file that nothing brings, a variable that is open, an image that is not here", async () => {
    expect(await check("template-needs", { requires: { files: ["a.toml"] } })).toMatchObject({
      status: "fail",
      detail: "mine: requires a.toml, and nothing brings it",
    });
    const brought = { requires: { files: ["a.toml"] }, files: { "a.toml": { text: "" } } };
    expect(await check("template-needs", brought)).toMatchObject({ status: "ok" });
    expect(await check("template-needs", { requires: { env: ["KEY"] } })).toMatchObject({
      status: "warn",
      detail: "mine: requires KEY",
    });
    const image = `nowhere.invalid/x@sha256:${"a".repeat(64)}`;
    expect(await check("template-needs", { source: { image } })).toMatchObject({
      status: "warn",
      fix: expect.stringContaining("docker pull --platform"),
    });
  }, 60_000);

  test("knows a platform that nothing here emulates", async () => {
    const platform = process.arch === "arm64" ? "linux/amd64" : "linux/arm64";
    const source = { build: "harnessd", platform };
    const found = await check("template-needs", { source });
    const emulated = await checkEmulation(platform).then(
      () => true,
      () => false,
    );
    if (emulated) return expect(found).toMatchObject({ status: "ok" });
    expect(found).toMatchObject({
      status: "fail",
      detail: expect.stringContaining(`emulates ${platform}`),
      fix: expect.stringContaining("tonistiigi/binfmt"),
    });
  }, 30_000);
});
