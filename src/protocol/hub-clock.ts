import { DecoError } from "./errors.ts";

/** How far one heartbeat may move the clock, in ms. */
const MAX_STEP_MS = 5000;

/**
 * The hub's time on the laptop: the local clock plus an offset that registration sets and
 * heartbeats move. A wrong local clock locks nobody out (LESSONS 9).
 */
export class HubClock {
  readonly #localNow: () => number;
  #offsetMs = 0;

  constructor(options: { readonly now: () => number }) {
    this.#localNow = options.now;
  }

  /**
   * Takes the time of a registration as it is.
   *
   * @param hubNow - RFC 3339.
   * @throws DecoError invalid_request
   */
  set(hubNow: string): void {
    this.#offsetMs = parse(hubNow) - this.#localNow();
  }

  /**
   * Takes the time of a heartbeat's answer.
   *
   * @returns `jumped`, and nothing changed, when it is over 5 s away: register again.
   * @throws DecoError invalid_request
   */
  adjust(hubNow: string): "ok" | "jumped" {
    const stepMs = parse(hubNow) - this.now();
    if (Math.abs(stepMs) > MAX_STEP_MS) return "jumped";
    this.#offsetMs += stepMs;
    return "ok";
  }

  /** The hub's time in ms. */
  now(): number {
    return this.#localNow() + this.#offsetMs;
  }
}

function parse(hubNow: string): number {
  const time = Date.parse(hubNow);
  if (Number.isNaN(time)) throw new DecoError("invalid_request", `not a time: ${hubNow}`);
  return time;
}
