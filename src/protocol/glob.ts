export interface GlobOptions {
  /**
   * Whether `*`, `?` and `**` stand for names that begin with a dot; true when absent. Without, only
   * a pattern that writes the dot has them, and what lies below a folder named without wildcards.
   */
  readonly hidden?: boolean;
}

/**
 * Whether one of these patterns matches a path: `*` and `?` within a part, `**` over any number of
 * them. What lies below a folder that matches, matches too. Costs no more than the product of both
 * lengths: patterns and names may be anybody's, and a regular expression of many `*` takes ages.
 */
export function globMatcher(
  globs: readonly string[],
  { hidden = true }: GlobOptions = {},
): (path: string) => boolean {
  const patterns = globs.map((glob) => toPattern(glob, hidden));
  return (path) => {
    const names = path.split("/").map((name) => Array.from(name));
    return patterns.some((pattern) => matches(pattern, names));
  };
}

const ANY_DEPTH = "**";

interface Pattern {
  /** By character. */
  readonly parts: readonly (typeof ANY_DEPTH | readonly string[])[];
  readonly hidden: boolean;
  readonly hiddenBelow: boolean;
}

function toPattern(glob: string, hidden: boolean): Pattern {
  const parts = glob.split("/").filter((part) => part !== "" && part !== ".");
  return {
    parts: parts.map((part) => (part === ANY_DEPTH ? part : Array.from(part))),
    hidden,
    hiddenBelow: hidden || !/[*?]/.test(glob),
  };
}

/** Follows every way through the pattern at once, name by name. */
function matches({ parts, hidden, hiddenBelow }: Pattern, names: readonly string[][]): boolean {
  const end = parts.length;
  if (end === 0) return false;
  let states = new Set<number>();
  const enter = (into: Set<number>, at: number) => {
    into.add(at);
    // In the middle it may stand for nothing.
    for (let i = at; i < end - 1 && parts[i] === ANY_DEPTH; i++) into.add(i + 1);
  };
  enter(states, 0);
  for (const name of names) {
    const next = new Set<number>();
    const dot = name[0] === ".";
    for (const at of states) {
      const part = parts[at];
      if (part === undefined) {
        if (!dot || hiddenBelow) next.add(end);
      } else if (part === ANY_DEPTH) {
        if (!dot || hidden) enter(next, at === end - 1 ? end : at);
      } else if ((!dot || hidden || part[0] === ".") && fits(part, name)) {
        enter(next, at + 1);
      }
    }
    states = next;
  }
  return states.has(end);
}

/** On a misfit the last `*` takes one character more: no earlier one ever has to. */
function fits(pattern: readonly string[], name: readonly string[]): boolean {
  let [p, n] = [0, 0];
  let star = -1;
  let taken = 0;
  while (n < name.length) {
    if (pattern[p] === "*") {
      star = p++;
      taken = n;
    } else if (p < pattern.length && (pattern[p] === "?" || pattern[p] === name[n])) {
      p++;
      n++;
    } else if (star >= 0) {
      p = star + 1;
      n = ++taken;
    } else return false;
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}
