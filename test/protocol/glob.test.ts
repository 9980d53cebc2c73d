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
