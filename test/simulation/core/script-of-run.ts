import { type Script, scriptOf } from "../nodes/script.ts";
import type { Simulation } from "./simulation.ts";

/** What a run is about, by the hub's row or, where that was lost, by a daemon's ledger. */
export function scriptOfRun(sim: Simulation, runId: string): Script | undefined {
  const known = sim.fixture.hubDisk.get("SELECT prompt FROM runs WHERE run_id = ?", runId)?.[
    "prompt"
  ];
  if (typeof known === "string") return scriptOf(known);
  for (const { disk } of sim.laptops) {
    const row = disk.get("SELECT body FROM runs WHERE run_id = ?", runId);
    if (typeof row?.["body"] !== "string") continue;
    const body: { prompt: string } = JSON.parse(row["body"]);
    return scriptOf(body.prompt);
  }
  return undefined;
}
