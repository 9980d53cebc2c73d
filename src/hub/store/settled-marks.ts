import type { Db } from "../../storage/open-db.ts";

/** Up to which number of each journal this hub knows the runs that were acknowledged to their end. */
export interface SettledMarks {
  /** 0 for a journal that was never heard of. */
  get(linkId: string, journal: string): number;
  put(linkId: string, journal: string, mark: number): void;
}

export function settledMarks(db: Db): SettledMarks {
  const get = db.prepare("SELECT mark FROM settled_marks WHERE link_id = ? AND journal = ?");
  const put = db.prepare(
    "INSERT OR REPLACE INTO settled_marks (link_id, journal, mark) VALUES (?,?,?)",
  );
  return {
    get: (linkId, journal) => Number(get.get(linkId, journal)?.["mark"] ?? 0),
    put: (linkId, journal, mark) => void put.run(linkId, journal, mark),
  };
}
