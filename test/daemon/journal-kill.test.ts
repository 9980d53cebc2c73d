import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openJournal } from "../../src/daemon/journal.ts";
import { CHAIN_START, nextChain } from "../../src/protocol/chain.ts";

for (const batch of [1, 40]) {
  test(`a kill -9 amid appends of ${batch} loses nothing that was promised, and leaves no gap`, async () => {
    const dir = mkdtempSync(join(tmpdir(), "deco-kill-"));
    try {
      const path = join(dir, "journal.db");
      let promised = 0;
      for (let round = 0; round < 3; round++) {
        promised = await appendUntilKilled(path, batch, promised + 5 * batch);
        expect(lastIn(path, batch)).toBeGreaterThanOrEqual(promised);
      }
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
}

/** Starts a writer, kills it behind `enough`, and gives the last number that it was promised. */
async function appendUntilKilled(path: string, batch: number, enough: number): Promise<number> {
  const writer = join(import.meta.dir, "journal-writer.ts");
  const child = spawn(process.execPath, [writer, path, String(batch)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
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
