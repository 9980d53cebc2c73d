import { expect, test } from "bun:test";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { SHELL_PROMPT } from "../../src/commands/up-once.ts";

test("the default prompt writes its proof wherever the workspace is, as unconfined it is not /workspace", async () => {
  const workspace = await mkdtemp(join(tmpdir(), "deco-prompt-"));
  try {
    const { stdout } = await promisify(execFile)("sh", ["-c", SHELL_PROMPT], { cwd: workspace });
    const proof = (await readFile(join(workspace, "proof.txt"), "utf8")).trim();
    expect(proof).toStartWith("written in ");
    expect(stdout).toContain(`proof: ${proof}`);
  } finally {
    await rm(workspace, { recursive: true, force: true });
  }
});
