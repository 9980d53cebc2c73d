import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startChild } from "../../src/harnessd/child.ts";
import { EndMark } from "../../src/harnessd/end-mark.ts";
import { followOutput } from "../../src/harnessd/follow-output.ts";
import { startHarnessd, type TestHarnessd } from "./harnessd-process.ts";

let harnessd: TestHarnessd;

beforeAll(async () => {
  harnessd = await startHarnessd();
});
afterAll(async () => {
  await harnessd[Symbol.asyncDispose]();
});

async function shell(prompt: string, cat: string) {
  const bin = join(harnessd.folder, `bin-${Math.random()}`);
  await mkdir(bin);
  await writeFile(join(bin, "cat"), `#!/bin/sh\n${cat}\n`);
  await chmod(join(bin, "cat"), 0o755);
  const env = { PATH: `${bin}:${process.env["PATH"]}` };
  const events = await harnessd.events(await harnessd.createRun({ prompt, env }));
  const said = (stream: string) =>
    events
      .filter(({ type, payload }) => type === "tool.output.delta" && payload["stream"] === stream)
      .map(({ payload }) => payload["content"])
      .join("");
  return { out: said("stdout"), err: said("stderr"), last: events.at(-1) };
}

test("what a command said last comes, however late: on a busy machine its pipes may be seconds behind", async () => {
  const seen = await shell("echo out; echo err >&2", 'sleep 2; exec /bin/cat "$@"');
  expect(seen).toMatchObject({
    out: "out\n",
    err: "err\n",
    last: { type: "run.completed", payload: { output: expect.stringContaining("out\n") } },
  });
});

test("a command whose pipes were cut ends all the same, with its exit code", async () => {
  const seen = await shell("sleep 0.3; exit 3", "exit 0");
  expect(seen.last).toMatchObject({ type: "run.failed", payload: { exitCode: 3 } });
});

test("what came while the program itself stood still is not taken for silence", async () => {
  const child = await startChild({
    command: "sh",
    args: ["-c", "(sleep 0.3; echo late) & echo early"],
    cwd: "/",
    env: { PATH: process.env["PATH"] ?? "" },
  });
  void child.exited.then(() =>
    setTimeout(() => {
      const until = performance.now() + 800;
      while (performance.now() < until);
    }, 1),
  );
  let said = "";
  await followOutput(child, async (_stream, text) => void (said += text));
  expect(said).toBe("early\nlate\n");
});

async function marked(script: string) {
  const began = performance.now();
  const child = await startChild({
    command: "sh",
    args: ["-c", `printf MARK; printf MARK >&2; echo 3 >&3; ${script}`],
    endMark: "MARK",
    cwd: "/",
    env: { PATH: process.env["PATH"] ?? "" },
  });
  const { code } = await followOutput(child, async () => {});
  const state = await readFile(`/proc/${child.pid}/stat`, "utf8").catch(() => "gone");
  return { code, pid: child.pid, state, tookMs: performance.now() - began };
}

test("what wraps a command is gone when its end is told; a server that it left behind is not waited for", async () => {
  const wrapped = await marked("exec 3>&-; sleep 0.2");
  expect(wrapped.code).toBe(3);
  // Gone, or not even taken away yet.
  expect(wrapped.state).toMatch(/^gone$|\) Z /);
  const server = await marked("exec sleep 20");
  process.kill(server.pid, "SIGKILL");
  expect(server.tookMs).toBeLessThan(10_000);
});

test("a mark is found over any cut, and nothing of it, or after it, is given on", async () => {
  const mark = "\u0004mark\u0004";
  const whole = `a\u0004ma \u0004mark b ${mark}after`;
  for (let first = 0; first <= whole.length; first++) {
    for (let second = first; second <= whole.length; second++) {
      const end = new EndMark(mark);
      let given = "";
      const take = async (text: string) => void (given += text);
      await end.push(whole.slice(0, first), take);
      await end.push(whole.slice(first, second), take);
      await end.push(whole.slice(second), take);
      await end.close(take);
      expect(given).toBe("a\u0004ma \u0004mark b ");
    }
  }
});

test("what only began like a mark is given at the stream's end", async () => {
  const end = new EndMark("\u0004mark\u0004");
  let given = "";
  const take = async (text: string) => void (given += text);
  await end.push("x\u0004ma", take);
  expect(given).toBe("x");
  await end.close(take);
  expect(given).toBe("x\u0004ma");
});
