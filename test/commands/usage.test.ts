import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { testDaemon } from "../support/control-daemon.ts";
import { runDeco } from "../support/run-deco.ts";

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "deco-usage-"));
});
afterEach(() => rm(home, { recursive: true, force: true }));

test.each([
  [["up", "--prompt", "uname -a"], "--once"],
  [["up", "--harness", "shell"], "--once"],
  [["up", "--once", "--prompt", ""], "prompt"],
  [["up", "--once", "--prompt", " \n"], "prompt"],
  [["run", "--", ""], "prompt"],
  [["run", "--", " ", "\t"], "prompt"],
])("%j is a usage error at once, and names %s", async (args, named) => {
  const [command = "", ...rest] = args;
  const started = [command, "--json", ...(command === "up" ? ["--port", "0"] : []), ...rest];
  const { code, lines } = await runDeco(started, { home, timeoutMs: 15_000 });
  expect({ code, count: lines.length }).toEqual({ code: 2, count: 1 });
  const { code: problem, detail, fix } = JSON.parse(lines[0] ?? "");
  expect(problem).toBe("usage");
  expect(`${detail} ${fix}`).toContain(named);
  expect(fix).not.toContain("openapi");
});

test("sandbox rm of what is not there says so and is no error", async () => {
  await using it = await testDaemon("http://127.0.0.1:9", { flags: { provider: "process" } });
  const { dir } = it.home;
  const said = await runDeco(["sandbox", "rm", "nope"], { home: dir });
  expect(said).toMatchObject({ code: 0, stdout: "nope was not there: already gone\n" });
  const { code, lines } = await runDeco(["sandbox", "rm", "--json", "nope"], { home: dir });
  expect(code).toBe(0);
  expect(JSON.parse(lines[0] ?? "")).toEqual({ removed: [], alreadyGone: ["nope"] });
  expect((await runDeco(["sandbox", "rm", "NOPE"], { home: dir })).code).not.toBe(0);
});
