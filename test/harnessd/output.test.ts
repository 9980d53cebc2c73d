import { expect, test } from "bun:test";
import { LineSplitter, TextTail } from "../../src/harnessd/output.ts";

test("a tail keeps the last characters, and no half of one", () => {
  const tail = new TextTail(4);
  for (const piece of ["ab", "cdef", "", "g"]) tail.push(piece);
  expect(tail.toString()).toBe("defg");
  const emoji = new TextTail(3);
  emoji.push("a😀😀");
  expect(emoji.toString()).toBe("😀");
});

test("lines are put together over pieces; the last one waits for its newline", () => {
  const lines = new LineSplitter();
  expect(lines.push("one\ntw")).toEqual(["one"]);
  expect(lines.push("o\n\nthree")).toEqual(["two"]);
  expect(lines.push("")).toEqual([]);
  expect(lines.push("\n")).toEqual(["three"]);
});

test("a line over the limit is dropped whole, the next one is whole", () => {
  const lines = new LineSplitter(5);
  expect(lines.push("123")).toEqual([]);
  expect(lines.push("456789")).toEqual([]);
  expect(lines.push("0\nnext\n")).toEqual(["next"]);
});
