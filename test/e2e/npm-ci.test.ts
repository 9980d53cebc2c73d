import { expect, test } from "bun:test";
import { execFile } from "node:child_process";
import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

// `npm install` leaves out what the registry at hand lacks for other platforms; then `npm ci`
// refuses the lock file everywhere else.
test("npm ci takes the lock file as it is, without asking a registry", async () => {
  const directory = await mkdtemp(join(tmpdir(), "deco-npm-ci-"));
  try {
    for (const name of ["package.json", "package-lock.json"]) {
      await copyFile(join(ROOT, name), join(directory, name));
    }
    const { stdout } = await promisify(execFile)(
      "npm",
      ["ci", "--dry-run", "--offline", "--ignore-scripts"],
      { cwd: directory, env: { ...process.env, npm_config_cache: join(directory, "cache") } },
    );
    expect(stdout).toContain("add bun ");
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}, 60_000);
