import type { Journal } from "../../../src/daemon/journal.ts";
import { type Script, scriptOf } from "../nodes/script.ts";
import type { Simulation } from "./simulation.ts";

/** What daemons were asked, by run: their ledgers forget it once a run is settled. */
const asked = new WeakMap<Simulation, Map<string, string>>();

/** The same journal; what it takes in is remembered for {@link scriptOfRun}. */
export function noted(sim: Simulation, journal: Journal): Journal {
  const prompts = asked.get(sim) ?? new Map<string, string>();
  asked.set(sim, prompts);
  return {
    ...journal,
    createRun: (dispatch) => {
      prompts.set(dispatch.runId, dispatch.prompt);
      return journal.createRun(dispatch);
    },
  };
}

/** What a run is about, by the hub's row or, where that was lost, by what a daemon was asked. */
export function scriptOfRun(sim: Simulation, runId: string): Script | undefined {
  const row = sim.fixture.hubDisk.get("SELECT prompt FROM runs WHERE run_id = ?", runId);
  const prompt = row?.["prompt"] ?? asked.get(sim)?.get(runId);
  return typeof prompt === "string" ? scriptOf(prompt) : undefined;
}
