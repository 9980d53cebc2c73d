import { DecoError } from "../protocol/errors.ts";
import type { HubClock } from "../protocol/hub-clock.ts";
import type { Capability, Heartbeat, LinkState, SettledRuns } from "../protocol/messages.ts";
import { type HubApi, SESSION_ENDS } from "./hub-api.ts";
import type { Alarm } from "./supervise-alarm.ts";
import type { LinkSession } from "./supervise-state.ts";

/** The facts that a heartbeat carries; asked for at each one. */
export interface HeartbeatFacts {
  readonly state: LinkState;
  readonly load: Heartbeat["load"];
  readonly runs: Heartbeat["runs"];
  readonly capabilities: readonly Capability[];
  /** The settled runs behind what the hub knows; where they end, before it told. */
  readonly settled: (after: number | undefined) => SettledRuns | undefined;
}

export interface HeartbeatOptions {
  readonly hub: Pick<HubApi, "heartbeat">;
  readonly session: LinkSession;
  readonly clock: HubClock;
  readonly facts: () => HeartbeatFacts;
  readonly onCancel: (runId: string) => void;
  /** After each heartbeat that the hub took. */
  readonly onBeat: () => void;
  readonly onMissed: (error: DecoError) => void;
  /** Rung when there is news: the next heartbeat goes out at once. */
  readonly news: Alarm;
  readonly signal: AbortSignal;
  readonly random?: () => number;
}

/**
 * Sends heartbeats until the session ends or `signal` aborts. A hub that can't be reached ends
 * nothing: the next heartbeat comes, sooner than usual.
 *
 * @returns `clock_jumped` when the hub's time moved so far that a new registration must fix it.
 * @throws DecoError one of {@link SESSION_ENDS}
 */
export async function heartbeats(options: HeartbeatOptions): Promise<"aborted" | "clock_jumped"> {
  const { session, news, signal, random = Math.random } = options;
  let sent: string | undefined;
  let settledMark: number | undefined;
  for (let misses = 0; !signal.aborted; ) {
    const rings = news.rings;
    const facts = options.facts();
    const offered = JSON.stringify(facts.capabilities);
    try {
      const settled = facts.settled(settledMark);
      const answer = await heartbeatOnce(options, { ...facts, settled }, offered !== sent);
      const { clock } = answer;
      const { settled: mark = settled?.total ?? 0 } = answer;
      // More is left to tell, or the hub was restored and knows less than it did.
      if (settled !== undefined && mark < settled.total && mark !== settledMark) news.ring();
      settledMark = answer.settled;
      sent = offered;
      misses = 0;
      if (clock === "jumped") return "clock_jumped";
    } catch (thrown) {
      if (signal.aborted) return "aborted";
      const error = DecoError.from(thrown, "hub_unreachable");
      if (SESSION_ENDS.has(error.code)) throw error;
      options.onMissed(error);
      misses += 1;
    }
    const everyMs = session.heartbeatIntervalMs;
    const retryInMs = Math.min(everyMs, random() * 250 * 2 ** Math.min(misses, 10));
    await news.wait(misses === 0 ? everyMs : retryInMs, signal, rings);
  }
  return "aborted";
}

async function heartbeatOnce(
  options: HeartbeatOptions,
  {
    state,
    load,
    runs,
    capabilities,
    settled,
  }: Omit<HeartbeatFacts, "settled"> & {
    readonly settled: SettledRuns | undefined;
  },
  withCapabilities: boolean,
): Promise<{ clock: "ok" | "jumped"; settled: number | undefined }> {
  const { hub, session, clock, signal } = options;
  const body: Heartbeat = {
    epoch: session.epoch,
    state,
    load,
    runs,
    ...(settled === undefined ? {} : { settled }),
    ...(withCapabilities ? { capabilities: [...capabilities] } : {}),
  };
  const answer = await hub.heartbeat(session.linkSecret, body, signal);
  if (answer.revoked) throw new DecoError("revoked", "the hub says that this link was revoked");
  for (const runId of answer.cancel) options.onCancel(runId);
  const clockState = clock.adjust(answer.now);
  options.onBeat();
  return { clock: clockState, settled: answer.settled };
}
