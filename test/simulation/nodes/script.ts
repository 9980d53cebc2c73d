import type { Chance } from "../core/chance.ts";

/** What a run's agent does, written into the prompt of the run. */
export interface Script {
  /** Names the user's wish; one run, unless a restored hub forgot that it was given. */
  readonly label: string;
  readonly events: number;
  /** Said at once. */
  readonly burst: number;
  readonly gapMs: number;
  readonly end: "completed" | "failed" | "never";
  /** Takes no cancel: it has to be killed. */
  readonly stubborn: boolean;
}

export function drawScript(
  chance: Chance,
  label: string,
  { events, withinMs }: { events: number; withinMs: number },
): Script {
  const bursts = Math.min(events, chance.pick([1, 2, 4, 8, 20]));
  const burst = Math.ceil(events / bursts);
  return {
    label,
    events,
    burst,
    gapMs: Math.ceil(chance.real(1, withinMs / 2) / bursts),
    end: chance.pick(["completed", "completed", "completed", "failed", "never"]),
    stubborn: chance.hit(0.2),
  };
}

export function promptOf(script: Script): string {
  return JSON.stringify(script);
}

export function scriptOf(prompt: string): Script {
  const script: Script = JSON.parse(prompt);
  return script;
}

const WORDS = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot"] as const;

/** The nth thing that the agent says. */
export function wordOf(script: Script, n: number): string {
  return WORDS[(n * 7 + script.label.length) % WORDS.length] ?? "";
}
