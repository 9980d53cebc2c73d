import { expect, test } from "bun:test";
import { globMatcher } from "../../src/protocol/glob.ts";

test.each([
  ["*.txt", "a.txt", true],
  ["*.txt", "a/b.txt", false],
  ["**/*.txt", "b.txt", true],
  ["**/*.txt", "a/b/c.txt", true],
  ["dist/**", "dist/a/b", true],
  ["dist/**", "dist", false],
  ["dist/**", "distant/a", false],
  ["dist", "dist/a/b", true],
  ["./dist/", "dist/a", true],
  ["a/**/z", "a/z", true],
  ["a/**/z", "a/b/c/z", true],
  ["a/**/z", "ab/z", false],
  ["?.js", "a.js", true],
  ["?.js", "ab.js", false],
  ["a.c", "abc", false],
  ["(x)[1]+$^|{2}", "(x)[1]+$^|{2}", true],
  ["ü*/世界", "über/世界", true],
  ["**", "any/thing", true],
])("%s and %s: %p", (glob, path, expected) => {
  expect(globMatcher(["never", glob])(path)).toBe(expected);
});

test.each([
  ["*", ".envrc", false],
  ["*", "src/a", true],
  ["*", "src/.npmrc", false],
  ["**", ".vscode/tasks.json", false],
  ["**/*.json", ".vscode/tasks.json", false],
  ["?bashrc", ".bashrc", false],
  [".*", ".envrc", true],
  [".github/**", ".github/a.yml", true],
  ["**/.npmrc", "a/b/.npmrc", true],
  ["out", "out/.cache/a", true],
])("names with a dot only where it is written: %s and %s: %p", (glob, path, expected) => {
  expect(globMatcher([glob], { hidden: false })(path)).toBe(expected);
});

test("a pattern of many wildcards takes no longer than one of few", () => {
  const begin = performance.now();
  const match = globMatcher(["*a*a*a*a*a*b", `${"*a".repeat(400)}*b`, `${"**/a/".repeat(200)}b`]);
  expect(match("a".repeat(110))).toBe(false);
  expect(match("a/".repeat(127))).toBe(false);
  expect(performance.now() - begin).toBeLessThan(500);
});
