import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Journal, type JournalOptions, openJournal } from "../../src/daemon/journal.ts";
import { CHAIN_START, nextChain } from "../../src/protocol/chain.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import type { DispatchRun } from "../../src/protocol/messages.ts";

/** A journal in a directory of its own, which can be closed and opened again. */
export class JournalHome {
  readonly dir = mkdtempSync(join(tmpdir(), "deco-journal-"));
  readonly path = join(this.dir, "journal.db");
  journal: Journal = openJournal({ path: this.path });

  reopen(options: Partial<JournalOptions> = {}): Journal {
    this.journal.close();
    this.journal = openJournal({ path: this.path, ...options });
    return this.journal;
  }

  /** The hub's chain over the first `count` events of run-1. */
  chainOf(count: number): string {
    let chain = CHAIN_START;
    for (const row of this.journal.read("run-1", 1, 0, count)) chain = nextChain(chain, row.data);
    return chain;
  }

  [Symbol.dispose](): void {
    this.journal.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export function dispatchOf(more: Partial<DispatchRun> = {}): DispatchRun {
  return { runId: "run-1", attempt: 1, harness: "shell", prompt: "true", ...more };
}

export function delta(content: string, harnessEventId?: string) {
  const id = harnessEventId === undefined ? {} : { harnessEventId };
  return { type: "assistant.message.delta", payload: { content }, ...id };
}

/** The DecoError that `fn` throws. */
export function thrownBy(fn: () => unknown): DecoError {
  try {
    fn();
  } catch (error) {
    if (error instanceof DecoError) return error;
    throw error;
  }
  throw new Error("it did not throw");
}
