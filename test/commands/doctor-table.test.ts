import { afterAll, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { checkEmulation } from "../../src/sandbox/drivers/docker/life/preflight.ts";
import { fakeEngine } from "../support/engine-fake.ts";
import { runDeco } from "../support/run-deco.ts";

/** docs/sandboxes.md, "Before anything starts": each of its lines is one that the doctor knows. */
const DOCS = join(import.meta.dirname, "../../docs/sandboxes.md");
const Report = z.object({
  checks: z.array(z.looseObject({ id: z.string(), status: z.string(), detail: z.string() })),
});
const IMAGE = `docker.io/library/x@sha256:${"a".repeat(64)}`;
const ID = `sha256:${"b".repeat(64)}`;
const OTHER = process.arch === "arm64" ? "amd64" : "arm64";
const OWN = process.arch === "arm64" ? "arm64" : "amd64";
const isRoot = process.getuid?.() === 0;

interface Case {
  /** Words of the table's first column. */
  readonly row: string;
  readonly code: string;
  readonly id: string;
  readonly fix: string;
  readonly template?: object;
  readonly engine?: Parameters<typeof fakeEngine>[1];
  /** A disk of so many MiB, and below which folder of the home. */
  readonly disk?: { readonly at: string; readonly mib: number };
}

const image = (more: object) => ({
  [`/images/${IMAGE}/json`]: { Id: ID, Os: "linux", Architecture: OWN, Config: {}, ...more },
});
const needs = { id: "template-needs" };
const CASES: readonly Case[] = [
  {
    row: "engine older than 20.10",
    code: "docker_unavailable",
    id: "docker",
    fix: "20.10 or newer",
    engine: { version: { ApiVersion: "1.40" } },
  },
  {
    row: "of another architecture",
    code: "docker_unavailable",
    id: "docker",
    fix: "this machine's architecture",
    engine: { version: { Arch: OTHER } },
  },
  {
    row: "image not here",
    code: "image_missing",
    ...needs,
    fix: "docker pull --platform",
    template: { source: { image: IMAGE } },
  },
  {
    row: "image of another platform",
    code: "image_missing",
    ...needs,
    fix: `docker pull --platform linux/${OWN}`,
    template: { source: { image: IMAGE } },
    engine: { paths: image({ Architecture: OTHER }) },
  },
  {
    row: "an image's id that is not here",
    code: "image_missing",
    ...needs,
    fix: "docker load",
    template: { source: { image: ID } },
  },
  {
    row: "nothing here emulates",
    code: "isolation_unavailable",
    ...needs,
    fix: "tonistiigi/binfmt",
    template: { source: { build: "harnessd", platform: `linux/${OTHER}` } },
  },
  {
    row: "more memory than the engine's machine has",
    code: "isolation_unavailable",
    ...needs,
    fix: "at most 1024 MiB",
    template: { resources: { memoryMib: 2048 } },
    engine: { info: { MemTotal: 1024 ** 3 } },
  },
  {
    row: "more CPUs",
    code: "isolation_unavailable",
    ...needs,
    fix: "at most 2 CPUs",
    template: { resources: { cpus: 3 } },
    engine: { info: { NCPU: 2 } },
  },
  {
    row: "an image without a program",
    code: "isolation_unavailable",
    ...needs,
    fix: "Use an image that starts harnessd",
    template: { source: { image: IMAGE } },
    engine: { paths: image({}) },
  },
  {
    row: "a file that the template requires",
    code: "config_missing",
    ...needs,
    fix: "`files`",
    template: { requires: { files: ["a"] } },
  },
  {
    row: "nor in the host's folder",
    code: "config_missing",
    ...needs,
    fix: "`files`",
    template: {
      requires: { files: ["no-such-file"] },
      workspace: { mode: "read_only", path: tmpdir() },
    },
  },
  {
    row: "a variable that the template requires",
    code: "invalid_request",
    ...needs,
    fix: "deco run --env",
    template: { requires: { env: ["KEY"] } },
  },
  {
    row: "less than 100 MiB on the engine's disk",
    code: "storage_failed",
    id: "sandbox-disk",
    fix: "docker system df",
    disk: { at: "engine", mib: 50 },
  },
  {
    row: "8 MiB in the run root",
    code: "storage_failed",
    id: "sandbox-disk",
    fix: "deco sandbox prune",
    disk: { at: "run/s", mib: 4 },
  },
];

const rows = (await readFile(DOCS, "utf8"))
  .split("## Before anything starts")[1]
  ?.split("\n## ")[0]
  ?.split("\n")
  .filter((line) => line.startsWith("| ") && !line.startsWith("| what "));

test("each line of the table has a case, and each case its line and its code", () => {
  expect(rows?.length).toBeGreaterThan(8);
  for (const row of rows ?? []) {
    const mine = CASES.filter((one) => row.includes(one.row));
    expect({ row, cases: mine.length }).not.toEqual({ row, cases: 0 });
    for (const { code } of mine) expect(row).toContain(`| \`${code}\` |`);
  }
  for (const { row } of CASES) expect(rows?.filter((line) => line.includes(row))).toHaveLength(1);
});

const emulated = await checkEmulation(`linux/${OTHER}`).then(
  () => true,
  () => false,
);
const home = await mkdtemp(join(tmpdir(), "deco-dt-"));
afterAll(() => rm(home, { recursive: true, force: true }));

test.each(CASES)(
  "the doctor knows: $row",
  async ({ id, fix, template, engine = {}, disk }) => {
    const dir = await mkdtemp(join(home, "h-"));
    await mkdir(join(dir, "templates"));
    const text = JSON.stringify({ version: 1, ...template });
    if (template !== undefined) await writeFile(join(dir, "templates/mine.json"), text);
    const at = disk === undefined ? undefined : join(dir, disk.at);
    if (at !== undefined) {
      // Only root can have a small disk; without it there is none to look at.
      if (!isRoot) return expect(process.getuid?.()).toBeGreaterThan(0);
      await mkdir(at, { recursive: true, mode: 0o700 });
      execFileSync("mount", ["-t", "tmpfs", "-o", `size=${disk?.mib}m`, "tmpfs", at]);
    }
    try {
      const info = disk?.at === "engine" ? { DockerRootDir: at } : engine.info;
      await using fake = await fakeEngine(join(dir, "d.sock"), {
        ...engine,
        ...(info && { info }),
      });
      const env = { DOCKER_HOST: fake.dockerHost, DOCKER_CONFIG: dir };
      const { stdout } = await runDeco(["doctor", "--json"], { home: dir, env });
      const found = Report.parse(JSON.parse(stdout)).checks.find((one) => one.id === id);
      if (emulated && fix.includes("binfmt")) return expect(found?.status).toBe("ok");
      expect(["warn", "fail"]).toContain(found?.status ?? "");
      expect(found?.["fix"]).toContain(fix);
    } finally {
      if (at !== undefined) execFileSync("umount", [at]);
    }
  },
  30_000,
);
