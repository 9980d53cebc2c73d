import { isEnded } from "../../../src/protocol/run-events.ts";
import { promptOf } from "../nodes/script.ts";
import { Reader } from "./reader.ts";
import type { Wish } from "./scenario.ts";
import { scriptOfRun } from "./script-of-run.ts";
import { type Simulation, USER } from "./simulation.ts";

/** What became of one wish. */
export interface Wished {
  readonly wish: Wish;
  runId: string | undefined;
  /** A hub was asked for the run's end; it may have died before it said yes. */
  asked: boolean;
  /** The hub has taken the cancel of a run that, to it, had not ended. */
  cancelled: boolean;
  tries: number;
  reader: Reader | undefined;
}

const AGAIN_MS = 700;
const AGAIN_AT_MOST_MS = 60_000;

/** A user who asks until he is heard: for runs, and for their end. */
export function beUser(sim: Simulation): Wished[] {
  const { world, scenario } = sim;
  return scenario.wishes.map((wish) => {
    const wished: Wished = {
      wish,
      runId: undefined,
      asked: false,
      cancelled: false,
      tries: 0,
      reader: undefined,
    };
    world.schedule(world.outside, wish.atMs, () => ask(sim, wished));
    return wished;
  });
}

function ask(sim: Simulation, wished: Wished): void {
  const { world, hubProgram } = sim;
  let answered = false;
  const again = () => {
    if (wished.runId !== undefined || answered) return;
    answered = true;
    wished.tries += 1;
    const inMs = Math.min(AGAIN_MS * 1.3 ** wished.tries, AGAIN_AT_MOST_MS);
    world.schedule(world.outside, inMs, () => ask(sim, wished));
  };
  // Whatever becomes of the request: without an answer it is asked again.
  world.schedule(world.outside, 8000, again);
  if (hubProgram === undefined) return;
  world.schedule(hubProgram, 1, () => {
    if (sim.hub === undefined) return again();
    const { dispatcher } = sim.hub;
    const { script } = wished.wish;
    dispatcher
      .create({
        user: USER,
        body: { harness: "shell", prompt: promptOf(script) },
        idempotency: { key: script.label, path: "/api/runs" },
        signal: new AbortController().signal,
      })
      .then(({ runId }) => world.schedule(world.outside, 1, () => accepted(sim, wished, runId)))
      .catch((error: unknown) => {
        world.trace(`${script.label} refused: ${String(error)}`);
        again();
      });
  });
}

function accepted(sim: Simulation, wished: Wished, runId: string): void {
  if (wished.runId !== undefined) return;
  wished.runId = runId;
  wished.reader = new Reader(sim, runId);
  sim.world.trace(`${wished.wish.script.label} is ${runId}`);
  const { cancelAfterMs } = wished.wish;
  if (cancelAfterMs === undefined) return;
  sim.world.schedule(sim.world.outside, cancelAfterMs, () => cancel(sim, wished));
}

/**
 * A hub that was restored may have forgotten that a run shall end, or that it was the answer to a
 * wish: who finds a run that would never end, ends it.
 */
export function endForgotten(sim: Simulation): void {
  const { world, hubProgram } = sim;
  if (sim.restoredAt === undefined) return;
  world.schedule(world.outside, 5000, () => endForgotten(sim));
  if (hubProgram === undefined) return;
  world.schedule(hubProgram, 1, () => {
    if (sim.hub === undefined) return;
    const { store } = sim.hub.context;
    for (const { run_id: id } of sim.fixture.hubDisk.all(
      "SELECT run_id FROM runs WHERE settled = 0",
    )) {
      const run = store.runs.get(String(id));
      if (run === undefined || run.cancelRequested || isEnded(run.status)) continue;
      if (scriptOfRun(sim, run.runId)?.end !== "never") continue;
      sim.hub.dispatcher.cancel(run);
    }
  });
}

/** Asks for a run's end until the hub has taken it; again when a restored hub has forgotten it. */
export function cancel(sim: Simulation, wished: Wished): void {
  const { world, hubProgram } = sim;
  const { runId } = wished;
  if (wished.cancelled || hubProgram === undefined || runId === undefined) return;
  world.schedule(world.outside, AGAIN_MS, () => cancel(sim, wished));
  world.schedule(hubProgram, 1, () => {
    if (sim.hub === undefined || wished.cancelled) return;
    const { store } = sim.hub.context;
    const run = store.runs.get(runId);
    if (run === undefined) return;
    sim.weather.count("cancel");
    world.trace(`cancel of ${runId}`);
    wished.asked = true;
    sim.hub.dispatcher.cancel(run);
    wished.cancelled = true;
  });
}
