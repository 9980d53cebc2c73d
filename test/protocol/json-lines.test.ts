import { expect, test } from "bun:test";
import { parseJsonLines } from "../../src/protocol/json-lines.ts";

const thrownBy = (text: string) => {
  try {
    parseJsonLines(text);
  } catch (thrown) {
    return String(thrown);
  }
  return "nothing";
};

test("every JSON text has the value that JSON.parse gives it", () => {
  const texts = [
    "{}",
    ' [1, -2.5e+3, true, false, null, "a\\u00e9\\"b", [], {}] ',
    '{"a": {"b": [{"c": 1}]}, "": 0, "__proto__": {"x": 1}}',
    '"\\ud83d\\ude00 \\/"',
  ];
  for (const text of texts) expect(parseJsonLines(text).value).toEqual(JSON.parse(text));
});

test("the line of each member is known, of an absent one that of its parent", () => {
  const { lineOf } = parseJsonLines('{\n  "a": [\n    1,\n    2\n  ],\n\n  "b": {"c":\n 3}\n}\n');
  expect([lineOf([]), lineOf(["a"]), lineOf(["a", 1]), lineOf(["b", "c"])]).toEqual([1, 2, 4, 7]);
  expect(lineOf(["b", "nope", "deeper"])).toBe(7);
});

test("what is no JSON is told with its line", () => {
  expect(thrownBy('{\n"a": 1,\n}')).toContain("line 3");
  expect(thrownBy('{"a" 1}')).toContain('":" is missing behind "a"');
  expect(thrownBy('{"a": 1\n"b": 2}')).toContain('line 2: "," or "}" is missing');
  expect(thrownBy('["a"')).toContain('"," or "]" is missing');
  expect(thrownBy("{}\n{}")).toContain("line 2: something follows");
  expect(thrownBy("")).toContain("line 1: is not JSON");
  expect(thrownBy('["\n"]')).toContain("is not JSON");
  expect(thrownBy("{'a': 1}")).toContain("double quotes");
  expect(thrownBy("[".repeat(100))).toContain("nested too deeply");
});

test("a name that is there twice is an error: two readers could take two values", () => {
  expect(thrownBy('{"a": 1,\n"a": 2}')).toContain('line 2: "a" is there twice');
  expect(thrownBy('{"a": 1,\n"\\u0061": 2}')).toContain('line 2: "a" is there twice');
});

test("many members cost no more than their number: a dispatch waits for it", () => {
  const members = Array.from({ length: 40_000 }, (_, i) => `"m${i}": [${i}]`);
  const before = performance.now();
  const { lineOf } = parseJsonLines(`{${members.join(",\n")}}`);
  // By counting each line from the top it took over a minute.
  expect(performance.now() - before).toBeLessThan(5_000);
  expect(lineOf(["m39999"])).toBe(40_000);
});
