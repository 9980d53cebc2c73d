import { describe, expect, test } from "bun:test";
import { parseTtl } from "../../src/commands/hub-token.ts";
import { createOutput, printable } from "../../src/commands/output.ts";
import { printEvent } from "../../src/commands/print-event.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import type { RunEvent } from "../../src/protocol/run-events.ts";

function capture(options: { json?: boolean; env?: Record<string, string>; isTTY?: boolean } = {}) {
  let stdout = "";
  let stderr = "";
  const out = createOutput({
    json: options.json ?? false,
    env: options.env ?? {},
    stdout: { write: (text) => (stdout += text), isTTY: options.isTTY ?? false },
    stderr: { write: (text) => (stderr += text) },
  });
  return { out, stdout: () => stdout, stderr: () => stderr };
}

const event = (type: string, payload: Record<string, unknown>): RunEvent => ({
  seq: 1,
  runId: "r",
  type,
  at: "2026-01-01T00:00:00.000Z",
  payload,
});

describe("what commands print", () => {
  test.each([
    [{ isTTY: false }, false],
    [{ isTTY: true }, true],
    [{ isTTY: true, env: { NO_COLOR: "1" } }, false],
    [{ isTTY: true, env: { TERM: "dumb" } }, false],
    [{ isTTY: true, json: true }, false],
  ])("colour with %p: %p", (options, coloured) => {
    const { out } = capture(options);
    expect(out.green("x").includes("\u001B")).toBe(coloured);
  });

  test("a failure is title, detail and fix on stderr; with --json a problem on stdout, too", () => {
    const human = capture();
    human.out.error(new DecoError("link_offline", "laptop is offline"));
    expect(human.stdout()).toBe("");
    expect(human.stderr()).toBe(
      "error: The link is offline: laptop is offline\nfix: Run `deco link` on the laptop.\n",
    );
    const json = capture({ json: true });
    json.out.error(new DecoError("link_offline", "laptop is offline"));
    expect(JSON.parse(json.stdout())).toMatchObject({
      ok: false,
      code: "link_offline",
      status: 409,
    });
  });

  test("escape sequences from a sandbox do not reach the terminal", () => {
    const { out, stdout } = capture();
    const content = "a\u001B]0;title\u0007b\u009B31mc\rd\te\n";
    printEvent(out, event("tool.output.delta", { content }));
    expect(stdout()).toBe("a]0;titleb31mcd\te\n");
    expect(printable("\u0000\u007F")).toBe("");
  });

  test("nor do those in an error that came from afar", () => {
    const { out, stderr } = capture();
    out.error(new DecoError("harness_failed", "\u001B]0;x\u0007said", { fix: "run \u001B[8mrm" }));
    expect(stderr()).toBe("error: The harness failed: ]0;xsaid\nfix: run [8mrm\n");
  });

  test("with --json events are printed byte for byte as they came", () => {
    const { out, stdout } = capture({ json: true });
    const sent = event("tool.output.delta", { content: "a\u001B[31m", stream: "stdout" });
    printEvent(out, sent);
    expect(JSON.parse(stdout())).toEqual(sent);
  });

  test("a result starts on a line of its own behind text without a line feed", () => {
    const { out, stdout } = capture();
    printEvent(out, event("assistant.message.delta", { content: "hello" }));
    printEvent(out, event("run.completed", { exitCode: 0 }));
    expect(stdout()).toBe("hello\nrun completed, exit code 0\n");
  });

  test("a failed run names leg, code, detail and fix", () => {
    const { out, stdout } = capture();
    const payload = { code: "harness_failed", leg: "harness", detail: "it broke", fix: "mend it" };
    printEvent(out, event("run.failed", payload));
    expect(stdout()).toBe("run failed (harness: harness_failed): it broke\nfix: mend it\n");
  });
});

describe("--ttl", () => {
  test.each([
    ["45s", 45],
    ["30m", 1800],
    ["12h", 43_200],
    ["30d", 2_592_000],
  ])("%p is %p seconds", (text, seconds) => expect(parseTtl(text)).toBe(seconds));

  test.each(["", "30", "d", "0d", "-1d", "1w", "9999999d"])("%p is refused", (text) => {
    expect(() => parseTtl(text)).toThrow("no time");
  });
});
