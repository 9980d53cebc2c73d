import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openJournal } from "../../src/daemon/journal.ts";
import { CHAIN_START, nextChain } from "../../src/protocol/chain.ts";

const root = join(import.meta.dir, "../..");
const writer = join(import.meta.dir, "../support/programs/journal-writer.ts");

for (const batch of [1, 40]) {
  test(`a kill -9 amid appends of ${batch} loses nothing that was promised, and leaves no gap`, async () => {
    await killAndLook([process.execPath, writer], batch);
  });
}

test("the same holds on Node, and Bun reads what Node wrote", async () => {
  mkdirSync(join(root, ".cache"), { recursive: true });
  const out = mkdtempSync(join(root, ".cache", "node-journal-"));
  try {
    const built = await Bun.build({
      entrypoints: [writer],
      target: "node",
      packages: "external",
      outdir: out,
    });
    expect(built.success).toBe(true);
    await killAndLook(["node", join(out, "journal-writer.js")], 40);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
});

async function killAndLook(program: readonly string[], batch: number): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "deco-kill-"));
  try {
    const path = join(dir, "journal.db");
    let promised = 0;
    for (let round = 0; round < 3; round++) {
      promised = await appendUntilKilled([...program, path, String(batch)], promised + 5 * batch);
      expect(lastIn(path, batch)).toBeGreaterThanOrEqual(promised);
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Starts a writer, kills it behind `enough`, and gives the last number that it was promised. */
async function appendUntilKilled(command: readonly string[], enough: number): Promise<number> {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += String(chunk);
    if (lastLine(output) >= enough) child.kill("SIGKILL");
  });
  await once(child, "close");
  expect(child.signalCode).toBe("SIGKILL");
  return lastLine(output);
}

function lastLine(output: string): number {
  return Number(output.split("\n").slice(0, -1).at(-1) ?? 0);
}

/** The last number on disk, after checking that numbers, chain and batches are whole. */
function lastIn(path: string, batch: number): number {
  const journal = openJournal({ path });
  try {
    const rows = journal.read("run-1", 1, 0, 1_000_000);
    expect(rows.map((row) => row.seq)).toEqual(rows.map((_, index) => index + 1));
    expect(rows.length % batch).toBe(0);
    const chain = rows.reduce((previous, row) => nextChain(previous, row.data), CHAIN_START);
    expect(journal.record("run-1")).toMatchObject({ lastSeq: rows.length, lastChain: chain });
    return rows.length;
  } finally {
    journal.close();
  }
}
