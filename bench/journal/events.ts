import type { JournalDraft } from "../../src/daemon/journal.ts";

/** Content by its share: words of an answer, lines of output, now and then a whole file. */
const SIZES: readonly number[] = [60, 60, 60, 60, 120, 120, 400, 400, 1200, 4000];
const TEXT = "The quick brown fox jumps over the lazy dog; ".repeat(100);

/** The nth event of an agent: 648 bytes of content in the mean. Neighbours can't be merged. */
export function eventOf(n: number): JournalDraft {
  const content = TEXT.slice(0, SIZES[(n * 7) % SIZES.length]);
  const payload = { callId: `call_${n}`, stream: "stdout", content };
  return { type: "tool.output.delta", payload, harnessEventId: `run_bench:${n}` };
}

/** What a dispatch of such a run says. */
export function dispatchOf(runId: string) {
  return { runId, attempt: 1, harness: "shell", prompt: "make test" } as const;
}

export function runsOf(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `run_${String(index).padStart(5, "0")}`);
}
