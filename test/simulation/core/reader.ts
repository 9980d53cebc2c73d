import type { SimHub } from "../nodes/hub.ts";
import type { Simulation } from "./simulation.ts";

/** Somebody who follows a run's log over every restart of the hub, each time from where he was. */
export class Reader {
  readonly runId: string;
  lines: string[] = [];
  ended = false;
  readonly #sim: Simulation;
  #follows = 0;

  constructor(sim: Simulation, runId: string) {
    this.#sim = sim;
    this.runId = runId;
    sim.onHub((hub) => this.#start(hub));
  }

  #start(hub: SimHub): void {
    this.#follows += 1;
    void this.#follow(hub, this.#follows);
  }

  async #follow(hub: SimHub, turn: number): Promise<void> {
    const { lines } = this;
    const { runLog } = hub.context;
    try {
      const end = new AbortController().signal;
      for await (const { id, data } of runLog.follow(this.runId, lines.length, end)) {
        if (turn !== this.#follows) return;
        if (id !== String(lines.length + 1)) {
          this.#sim.violate(`${this.runId}: a reader got ${id} after ${lines.length}`);
        }
        lines.push(data);
      }
      this.ended = true;
    } catch (error) {
      if (this.#sim.hub !== hub || turn !== this.#follows) return;
      if (!this.#sim.mayRewrite) {
        this.#sim.violate(`${this.runId}: a reader was told ${String(error)}`);
      }
      // What a restored hub has lost, or what was not the daemon's, is read again.
      this.lines = [];
      this.#sim.world.timer(() => this.#start(hub), 1000);
    }
  }
}
