import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { type JournalDraft, openJournal } from "../../src/daemon/journal.ts";
import { encodeRunEvent } from "../../src/protocol/run-events.ts";
import { openDb } from "../../src/storage/open-db.ts";
import { dispatchOf } from "./events.ts";

/** Takes events of a run; what it resolved is on disk. */
export interface Sink {
  write(runId: string, drafts: readonly JournalDraft[]): Promise<unknown>;
  close(): Promise<void> | void;
}

export const SINKS = {
  /** Ours, the very call that a harness's events go through. */
  journal: async (dir: string, runIds: readonly string[]): Promise<Sink> => {
    const journal = openJournal({ path: join(dir, "journal.db") });
    for (const runId of runIds) journal.createRun(dispatchOf(runId));
    const { signal } = new AbortController();
    return {
      write: (runId, drafts) => journal.appendWhenRoom(runId, 1, drafts, signal),
      close: () => journal.close(),
    };
  },
  /** The same lines in a file, each synced by itself. */
  file_fsync_each: async (dir: string): Promise<Sink> => {
    const file = openSync(join(dir, "events.log"), "a");
    const lineOf = numbering();
    return {
      write: async (runId, drafts) => {
        for (const draft of drafts) {
          writeSync(file, lineOf(runId, draft));
          fdatasyncSync(file);
        }
      },
      close: () => closeSync(file),
    };
  },
  /** The same lines in a file; what all runs say while the disk is busy shares the next sync. */
  file_group_commit: async (dir: string): Promise<Sink> => {
    const file = await open(join(dir, "events.log"), "a");
    const lineOf = numbering();
    let pending: string[] = [];
    let next: Promise<void> | undefined;
    let last: Promise<void> = Promise.resolve();
    const commit = async (before: Promise<void>) => {
      await before;
      await setImmediate();
      const lines = pending;
      pending = [];
      next = undefined;
      await file.appendFile(lines.join(""));
      await file.datasync();
    };
    return {
      write: (runId, drafts) => {
        for (const draft of drafts) pending.push(lineOf(runId, draft));
        if (!next) {
          next = commit(last);
          last = next;
        }
        return next;
      },
      close: () => file.close(),
    };
  },
  /** The same lines in a table of SQLite (WAL, synchronous=FULL), a transaction each. */
  sqlite_each: async (dir: string): Promise<Sink> => {
    const db = openDb(join(dir, "raw.db"));
    db.exec("CREATE TABLE events (run_id TEXT, data TEXT)");
    const insert = db.prepare("INSERT INTO events VALUES (?, ?)");
    const lineOf = numbering();
    return {
      write: async (runId, drafts) => {
        for (const draft of drafts) insert.run(runId, lineOf(runId, draft));
      },
      close: () => db.close(),
    };
  },
};

export type SinkName = keyof typeof SINKS;

export const RIVALS = ["file_fsync_each", "file_group_commit", "sqlite_each"] as const;

function numbering(): (runId: string, draft: JournalDraft) => string {
  let seq = 0;
  return (runId, { type, payload }) => {
    seq += 1;
    return `${encodeRunEvent({ seq, runId, type, at: new Date().toISOString(), payload })}\n`;
  };
}
