import { upTo } from "./e2e-lab.ts";

/** Prints `line 1` to `line N`; rests after every `each` of them. */
export function counting(lines: number, each: number, restSeconds: number): string {
  return `i=1; while [ $i -le ${lines} ]; do echo line $i; [ $((i % ${each})) = 0 ] && sleep ${restSeconds}; i=$((i+1)); done; exit 0`;
}

export function numbered(lines: number): string {
  return upTo(lines)
    .map((line) => `line ${line}\n`)
    .join("");
}

/** Where two texts part, in words that fit on a screen; undefined when they are the same. */
export function firstDifference(found: string, expected: string): string | undefined {
  if (found === expected) return undefined;
  let at = 0;
  while (found[at] === expected[at] && at < expected.length) at += 1;
  const around = (text: string) => JSON.stringify(text.slice(Math.max(0, at - 20), at + 40));
  return `at ${at} of ${expected.length}: ${around(found)} instead of ${around(expected)}`;
}
