import { cp } from "node:fs/promises";
import { join } from "node:path";
import { resolvePaths } from "../../src/daemon/paths.ts";
import { openDb } from "../../src/storage/open-db.ts";
import { newHome } from "./e2e-lab.ts";
import type { FaultLab } from "./fault-lab.ts";

/** Another home with the lab's identity, which its daemon has once been online with. */
export async function copiedHome(lab: FaultLab, provider: "docker" | "process"): Promise<string> {
  await lab.startLink(provider);
  await lab.killLink("SIGTERM");
  const copy = await newHome();
  await cp(join(lab.home, "state"), join(copy, "state"), {
    recursive: true,
    filter: (path) => !/lock|holder/.test(path),
  });
  return copy;
}

/** The runs in a home's journal, with how far the hub has acknowledged each. */
export function journalledRuns(home: string): Map<string, number> {
  const db = openDb(resolvePaths({ env: { DECO_HOME: home } }).journalFile);
  try {
    const rows = db.prepare("SELECT run_id, acked_seq FROM runs").all();
    return new Map(rows.map((row) => [String(row["run_id"]), Number(row["acked_seq"])]));
  } finally {
    db.close();
  }
}
