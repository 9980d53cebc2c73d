import { expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadLibsql } from "../../src/storage/open-db.ts";
import { openDbPromises, runProgram } from "./open-db-suite.ts";

const root = join(import.meta.dir, "../..");

for (const [name, promise] of Object.entries(openDbPromises)) {
  test(name, async () => {
    const dir = mkdtempSync(join(tmpdir(), "deco-db-"));
    try {
      await promise(dir);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
}

test("an installation without libsql's native part says to install again, not to free disk space", () => {
  const dir = mkdtempSync(join(tmpdir(), "deco-libsql-"));
  try {
    // The real package, in a place that has no @libsql/<platform> next to it.
    cpSync(join(root, "node_modules/libsql"), join(dir, "node_modules/libsql"), {
      recursive: true,
    });
    for (const name of ["@neon-rs/load", "detect-libc"]) {
      cpSync(join(root, "node_modules", name), join(dir, "node_modules", name), {
        recursive: true,
      });
    }
    const require = createRequire(join(dir, "program.js"));
    expect(() => loadLibsql((name) => require(name))).toThrow(
      expect.objectContaining({
        code: "storage_failed",
        message: expect.stringContaining("libsql"),
        fix: expect.stringContaining("--omit=optional"),
      }),
    );
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test("the same promises hold on Node, with nothing on stderr", async () => {
  // The bundle must lie inside the project, so that `libsql` is found from it.
  mkdirSync(join(root, ".cache"), { recursive: true });
  const out = mkdtempSync(join(root, ".cache", "node-db-"));
  try {
    const built = await Bun.build({
      entrypoints: [join(import.meta.dir, "../support/programs/open-db-promises.ts")],
      target: "node",
      packages: "external",
      outdir: out,
    });
    expect(built.success).toBe(true);
    const { code, stdout, stderr } = await runProgram("node", [join(out, "open-db-promises.js")]);
    expect({ failures: JSON.parse(stdout).failures, stderr }).toEqual({ failures: [], stderr: "" });
    expect(code).toBe(0);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
});
