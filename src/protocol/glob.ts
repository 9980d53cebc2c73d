/**
 * Whether one of these patterns matches a path: `*` and `?` within a part, `**` over any number of
 * them. What lies below a folder that matches, matches too.
 */
export function globMatcher(globs: readonly string[]): (path: string) => boolean {
  const patterns = globs.map(toPattern);
  return (path) => patterns.some((pattern) => pattern.test(path));
}

function toPattern(glob: string): RegExp {
  const parts = glob.split("/").filter((part) => part !== "" && part !== ".");
  const source = parts.map((part, index) => {
    const last = index === parts.length - 1;
    if (part === "**") return last ? "[^/]+(?:/[^/]+)*" : "(?:[^/]+/)*";
    return `${part.replaceAll(/[*]+|[^*]/g, literal)}${last ? "" : "/"}`;
  });
  return new RegExp(`^${source.join("")}(?:/.*)?$`, "su");
}

function literal(piece: string): string {
  if (piece.startsWith("*")) return "[^/]*";
  if (piece === "?") return "[^/]";
  return /[\w\s]/u.test(piece) || piece.codePointAt(0)! > 127 ? piece : `\\${piece}`;
}
