import type { Chance } from "../core/chance.ts";

/** What can go wrong on the way or to a program; counted over all seeds. */
export const FAULTS = [
  "request_lost",
  "answer_lost",
  "request_doubled",
  "slow",
  "tunnel_cut",
  "cut_in_answer",
  "line_doubled",
  "line_forged",
  "hub_crash",
  "hub_crash_at_commit",
  "hub_restored",
  "daemon_crash",
  "daemon_crash_at_commit",
  "laptop_asleep",
  "clock_set",
  "twin_daemon",
  "daemon_restarted",
  "sandbox_gone",
  "cancel",
] as const;
export type Fault = (typeof FAULTS)[number];

/** How likely each trouble of a line is, in one seed. */
export interface Climate {
  readonly requestLost: number;
  readonly answerLost: number;
  readonly requestDoubled: number;
  readonly slow: number;
  /** Of an answer's piece. */
  readonly cutInAnswer: number;
  readonly lineDoubled: number;
  readonly lineForged: number;
}

export const CALM: Climate = {
  requestLost: 0,
  answerLost: 0,
  requestDoubled: 0,
  slow: 0,
  cutInAnswer: 0,
  lineDoubled: 0,
  lineForged: 0,
};

/** Draws the troubles of the lines; none any more once it has cleared. */
export class Weather {
  climate: Climate;
  /** Troubles on the lines between a daemon and its sandboxes. */
  harnessTroubles = 0;
  readonly counts: Partial<Record<Fault, number>> = {};
  readonly #chance: Chance;

  constructor(chance: Chance, climate: Climate) {
    this.#chance = chance;
    this.climate = climate;
  }

  get chance(): Chance {
    return this.#chance;
  }

  count(fault: Fault): void {
    this.counts[fault] = (this.counts[fault] ?? 0) + 1;
  }

  strikes(fault: Fault, p: number): boolean {
    if (p === 0 || !this.#chance.hit(p)) return false;
    this.count(fault);
    return true;
  }

  /** Milliseconds of one way. A tunnel slower than its own heartbeats would count as dead. */
  latency(most: number): number {
    if (this.strikes("slow", this.climate.slow)) return this.#chance.real(200, most);
    return this.#chance.real(0.5, 30);
  }

  /** How long an end takes to notice that its line is dead. */
  noticed(): number {
    return this.#chance.hit(0.5) ? this.#chance.real(0, 50) : this.#chance.real(50, 6000);
  }
}
