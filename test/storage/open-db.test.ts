import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
