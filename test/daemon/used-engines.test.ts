import { expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEngineMemory, readUsedEngines } from "../../src/daemon/used-engines.ts";

test("a broken note of used engines stops no daemon: it is told, and written anew", async () => {
  const folder = await mkdtemp(join(tmpdir(), "deco-engines-"));
  try {
    const path = join(folder, "engines.json");
    await writeFile(path, "{half", { mode: 0o600 });
    const told: string[] = [];
    const memory = await openEngineMemory(path, {
      warn: (_facts: object, text?: string) => void told.push(String(text)),
    });
    expect(memory.known()).toEqual([]);
    expect(told).toEqual([expect.stringContaining("can't be read")]);
    await memory.use({ mark: "m", address: "/var/run/docker.sock" });
    expect((await readUsedEngines(path)).map(({ mark }) => mark)).toEqual(["m"]);
  } finally {
    await rm(folder, { recursive: true });
  }
});
