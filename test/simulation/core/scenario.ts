import { drawScript, type Script } from "../nodes/script.ts";
import { CALM, type Climate } from "../nodes/weather.ts";
import type { Chance } from "./chance.ts";

/** A fault at a moment, rather than on a line. */
export type Event =
  | { readonly type: "hub_crash"; readonly downMs: number; readonly restore: boolean }
  | {
      readonly type: "hub_crash_at_commit" | "daemon_crash_at_commit";
      readonly after: number;
      readonly side: "before" | "after";
      readonly downMs: number;
    }
  | { readonly type: "backup" }
  | { readonly type: "daemon_crash" | "daemon_restarted"; readonly downMs: number }
  | { readonly type: "laptop_asleep"; readonly forMs: number }
  | { readonly type: "clock_set"; readonly toMs: number }
  | { readonly type: "twin_daemon" }
  | { readonly type: "tunnel_cut" }
  | { readonly type: "sandbox_gone" };

export interface Wish {
  readonly atMs: number;
  readonly script: Script;
  /** After the run was taken in by the hub. */
  readonly cancelAfterMs: number | undefined;
}

/** All that a seed stands for, drawn before anything runs. */
export interface Scenario {
  readonly wishes: readonly Wish[];
  readonly events: readonly { readonly atMs: number; readonly event: Event }[];
  readonly climate: Climate;
  /** From then on nothing goes wrong any more. */
  readonly clearsAtMs: number;
}

export function drawScenario(chance: Chance, eventsPerSeed: number): Scenario {
  const restores = chance.hit(0.15);
  const clearsAtMs = chance.pick([6000, 12_000, 12_000, 25_000, 45_000]);
  const wishes = drawWishes(chance, eventsPerSeed, clearsAtMs);
  const events: { atMs: number; event: Event }[] = [];
  const at = () => chance.real(100, clearsAtMs - 500);
  for (let left = chance.pick([0, 1, 1, 2, 3, 5]); left > 0; left -= 1) {
    events.push({ atMs: at(), event: drawEvent(chance) });
  }
  if (restores) {
    const backupAt = at();
    events.push({ atMs: backupAt, event: { type: "backup" } });
    const event: Event = { type: "hub_crash", downMs: chance.real(10, 5000), restore: true };
    events.push({ atMs: chance.real(backupAt, clearsAtMs), event });
  }
  if (chance.hit(0.1)) cancelWhileAway(chance, wishes, events);
  return { wishes, events, climate: drawClimate(chance), clearsAtMs };
}

/** Rare by chance alone: the hub takes a cancel, can't deliver it, and dies; then the daemon is back. */
function cancelWhileAway(
  chance: Chance,
  wishes: Wish[],
  events: { atMs: number; event: Event }[],
): void {
  const [wish] = wishes;
  if (wish === undefined) return;
  const atMs = chance.real(100, 1000);
  wishes[0] = { atMs, script: { ...wish.script, end: "never" }, cancelAfterMs: 2200 };
  const away: Event = chance.hit(0.5)
    ? { type: "daemon_crash", downMs: chance.real(2500, 5000) }
    : { type: "laptop_asleep", forMs: chance.real(6000, 9000) };
  events.push({ atMs: atMs + 1500, event: away });
  const downMs = chance.real(10, 1500);
  events.push({ atMs: atMs + 3500, event: { type: "hub_crash", downMs, restore: false } });
}

function drawWishes(chance: Chance, events: number, withinMs: number): Wish[] {
  const wishes: Wish[] = [];
  const count = chance.pick([1, 1, 2, 3]);
  for (let i = 0; i < count; i += 1) {
    const most = Math.max(1, Math.ceil((2 * events) / count) - 1);
    const script = drawScript(chance, `w${i}`, { events: chance.int(1, most), withinMs });
    const cancels = script.end === "never" || chance.hit(0.2);
    const wait = chance.pick([0, 10, 300, 3000, 30_000]);
    const cancelAfterMs = cancels ? chance.real(0, 1) * wait : undefined;
    wishes.push({ atMs: chance.real(0, withinMs / 2), script, cancelAfterMs });
  }
  return wishes;
}

function drawEvent(chance: Chance): Event {
  const downMs = chance.pick([5, 500, 4000, 20_000]) * chance.real(0.5, 1);
  const type = chance.pick([
    "hub_crash",
    "hub_crash_at_commit",
    "hub_crash_at_commit",
    "daemon_crash",
    "daemon_crash_at_commit",
    "daemon_crash_at_commit",
    "daemon_restarted",
    "laptop_asleep",
    "clock_set",
    "twin_daemon",
    "tunnel_cut",
    "tunnel_cut",
    "sandbox_gone",
  ] as const);
  switch (type) {
    case "hub_crash":
      return { type, downMs, restore: false };
    case "hub_crash_at_commit":
    case "daemon_crash_at_commit":
      return { type, downMs, after: chance.int(0, 30), side: chance.pick(["before", "after"]) };
    case "daemon_crash":
    case "daemon_restarted":
      return { type, downMs };
    case "laptop_asleep":
      return { type, forMs: chance.pick([3000, 20_000, 3600_000]) * chance.real(0.5, 1) };
    case "clock_set":
      return { type, toMs: chance.pick([-8, -1, 0, 1, 8]) * 3600_000 * chance.real(0, 1) };
    case "twin_daemon":
    case "tunnel_cut":
    case "sandbox_gone":
      break;
  }
  return { type };
}

function drawClimate(chance: Chance): Climate {
  if (chance.hit(0.25)) return CALM;
  const sometimes = (p: number) => (chance.hit(0.4) ? chance.real(0, p) : 0);
  return {
    requestLost: sometimes(0.08),
    answerLost: sometimes(0.08),
    requestDoubled: sometimes(0.3),
    slow: sometimes(0.3),
    cutInAnswer: sometimes(0.1),
    lineDoubled: sometimes(0.1),
    lineForged: chance.hit(0.1) ? chance.real(0, 0.2) : 0,
  };
}
