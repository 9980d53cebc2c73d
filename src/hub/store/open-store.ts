import { join } from "node:path";
import { DecoError } from "../../protocol/errors.ts";
import { type Db, openDb } from "../../storage/open-db.ts";
import { openDataDir } from "../data-dir.ts";
import { type EventStore, eventStore } from "./events.ts";
import { type IdempotencyStore, idempotencyStore } from "./idempotency.ts";
import { type LinkStore, linkStore } from "./links.ts";
import { type RunStore, runStore } from "./runs.ts";
import { SCHEMA, STORE_VERSION } from "./schema.ts";
import { type SettledMarks, settledMarks } from "./settled-marks.ts";
import { type SignInStore, signInStore } from "./sign-in.ts";
import { type ThreadStore, threadStore } from "./threads.ts";

/** Everything that outlives a restart of the hub, in one SQLite file. */
export interface Store {
  readonly links: LinkStore;
  readonly runs: RunStore;
  readonly events: EventStore;
  readonly threads: ThreadStore;
  readonly idempotency: IdempotencyStore;
  readonly settledMarks: SettledMarks;
  readonly signIn: SignInStore;
  transaction<T>(fn: () => T): T;
  /** Asks the file a question; false once it can't answer (LESSONS 5). */
  ready(): boolean;
  close(): void;
}

/**
 * Opens `hub.db` in the data directory; a commit is on disk when a call returns.
 *
 * @throws DecoError `storage_failed` when the file can't be opened or was written by a newer hub.
 */
export function openStore(dataDir: string): Store {
  openDataDir(dataDir);
  const db = openDb(join(dataDir, "hub.db"), { synchronous: "FULL" });
  try {
    migrate(db);
  } catch (error) {
    db.close();
    throw error;
  }
  const ping = db.prepare("SELECT 1 AS one");
  return {
    links: linkStore(db),
    runs: runStore(db),
    events: eventStore(db),
    threads: threadStore(db),
    idempotency: idempotencyStore(db),
    settledMarks: settledMarks(db),
    signIn: signInStore(db),
    transaction: (fn) => db.transaction(fn),
    ready: () => {
      try {
        return ping.get() !== undefined;
      } catch {
        return false;
      }
    },
    close: () => db.close(),
  };
}

function migrate(db: Db): void {
  const version = Number(db.prepare("PRAGMA user_version").get()?.["user_version"] ?? 0);
  if (version > STORE_VERSION) {
    throw new DecoError(
      "storage_failed",
      `hub.db has version ${version}, this hub knows ${STORE_VERSION}`,
      {
        fix: "Update deco link.",
      },
    );
  }
  db.transaction(() => db.exec(`${SCHEMA}; PRAGMA user_version = ${STORE_VERSION};`));
}
