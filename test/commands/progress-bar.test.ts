import { expect, test } from "bun:test";
import { createOutput } from "../../src/commands/output.ts";

function output(env: Record<string, string>, isTTY: boolean, json = false, columns?: number) {
  let text = "";
  const stream = {
    write: (chunk: string) => (text += chunk),
    isTTY,
    ...(columns === undefined ? {} : { columns }),
  };
  return {
    out: createOutput({ json, env, stdout: { write: () => {} }, stderr: stream }),
    text: () => text,
  };
}

test("a bar moves in a terminal, and makes room for what is printed next", () => {
  const { out, text } = output({ TERM: "xterm" }, true);
  out.progress("building", 0.5);
  out.note("a line");
  expect(text()).toBe("[############            ]  50% building\r\u001B[2Ka line\n");
});

test("without a terminal, with NO_COLOR, TERM=dumb or --json there are plain lines, a few", () => {
  for (const { out, text } of [
    output({ TERM: "xterm" }, false),
    output({ NO_COLOR: "1" }, true),
    output({ TERM: "dumb" }, true),
    output({ TERM: "xterm" }, true, true),
  ]) {
    for (let i = 0; i <= 100; i++) out.progress("building", i / 100);
    const told = ["0%", "25%", "50%", "75%", "100%"];
    expect(text()).toBe(told.map((share) => `  building ${share}\n`).join(""));
  }
});

test("a bar is one line that fits the terminal, whatever it is told", () => {
  for (const [columns, longest] of [
    [40, 39],
    [200, 77],
    [undefined, 77],
  ] as const) {
    const { out, text } = output({ TERM: "xterm" }, true, false, columns);
    out.progress(`Step 1/9 : RUN a\n ---> ${"x".repeat(100)}`, 0.5);
    expect(text()).not.toContain("\n");
    expect(text()).toHaveLength(longest);
    out.progress("far too much", 7);
    expect(text()).toContain("] 100%");
  }
});
