import type { SettledRuns } from "../../protocol/messages.ts";
import { RunStatus } from "../../protocol/run-events.ts";
import type { Db, SqlRow } from "../../storage/open-db.ts";
import { integer, maybeText, text } from "./row.ts";

/** The runs that a hub has acknowledged to their end, numbered as it did: a restored hub asks for them. */
export interface SettledRunsLedger {
  /**
   * Gives an attempt that was just acknowledged to its end its number, and forgets what it was asked
   * (a prompt may be a MiB, an environment may hold keys): the hash of it is what a repeat is held against.
   */
  settle(runId: string, attempt: number): void;
  /** At most {@link PAGE} runs behind a number; none, and where the count stands, without one. */
  settledRuns(after: number | undefined): SettledRuns;
}

/** A heartbeat stays small: a page is at most some 300 KB, by the longest names that are allowed. */
const PAGE = 200;

export function createSettledRuns(db: Db): SettledRunsLedger {
  const count = db.prepare("UPDATE journal SET settled = settled + 1");
  const mark = db.prepare(
    `UPDATE runs SET settled_no = (SELECT settled FROM journal),
     body = json_remove(body, '$.prompt', '$.sandbox', '$.options')
     WHERE run_id = ? AND attempt = ?`,
  );
  const journal = db.prepare("SELECT id, settled FROM journal");
  const select = db.prepare(
    `SELECT run_id, attempt, last_seq, status, settled_no, ${named("user")}, ${named("harness")},
     ${named("thread")}, ${named("branch")} FROM runs WHERE settled_no > ? AND settled_no > 0
     ORDER BY settled_no LIMIT ${PAGE}`,
  );
  return {
    settle: (runId, attempt) => {
      count.run();
      mark.run(runId, attempt);
    },
    settledRuns: (after) => {
      const { id, settled } = journal.get() ?? {};
      const total = Number(settled ?? 0);
      const from = Math.min(after ?? total, total);
      const rows = from === total ? [] : select.all(from);
      const last = rows.at(-1);
      const through =
        rows.length < PAGE || last === undefined ? total : integer(last, "settled_no");
      return { journal: String(id), after: from, through, total, runs: rows.map(toSettledRun) };
    },
  };
}

/** A member of what is kept of the dispatch, as JSON. */
function named(field: string): string {
  return `json_extract(body, '$.${field}') AS ${field}`;
}

function toSettledRun(row: SqlRow): SettledRuns["runs"][number] {
  const names = (["user", "harness", "thread", "branch"] as const).flatMap((field) => {
    const value = maybeText(row, field);
    return value === undefined ? [] : [[field, value] as const];
  });
  return {
    runId: text(row, "run_id"),
    attempt: integer(row, "attempt"),
    lastSeq: integer(row, "last_seq"),
    status: RunStatus.parse(row["status"]),
    ...Object.fromEntries(names),
  };
}
