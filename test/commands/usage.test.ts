import { afterEach, beforeEach, expect, test } from "bun:test";
import { access, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { resolvePaths } from "../../src/daemon/paths.ts";
import { testDaemon } from "../support/control-daemon.ts";
import { temporaryOf } from "../support/leftovers.ts";
import { runDeco, startDeco } from "../support/run-deco.ts";

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
  [["run", "--network-name", "db", "--", "true"], "--thread"],
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

test("a thread's network that is asked for by its name reaches the daemon", async () => {
  await using it = await testDaemon("http://127.0.0.1:9", { flags: { provider: "process" } });
  const words = ["run", "--local", "--json", "--thread", "t", "--network-name", "db", "--", "true"];
  const { lines } = await runDeco(words, { home: it.home.dir });
  const said = JSON.parse(lines.at(-1) ?? "");
  expect(said).toMatchObject({ code: "isolation_unavailable" });
  expect(said.detail).toContain("network of a thread");
});

test("sandbox rm of what is not there says so and is no error", async () => {
  await using it = await testDaemon("http://127.0.0.1:9", { flags: { provider: "process" } });
  const { dir } = it.home;
  const said = await runDeco(["sandbox", "rm", "nope"], { home: dir });
  expect(said).toMatchObject({ code: 0, stdout: "nope was not there: already gone\n" });
  const { code, lines } = await runDeco(["sandbox", "rm", "--json", "nope"], { home: dir });
  expect(code).toBe(0);
  expect(JSON.parse(lines[0] ?? "")).toEqual({ removed: [], alreadyGone: ["nope"], failed: [] });
  expect((await runDeco(["sandbox", "rm", "NOPE"], { home: dir })).code).not.toBe(0);
});

test("a home with a very long path leaves nothing in the temporary folder after a stop", async () => {
  const deep = join(home, "long/".repeat(20));
  const { runtime } = resolvePaths({ env: { DECO_HOME: deep }, tmp: temporaryOf(deep) });
  expect(runtime).not.toStartWith(deep);
  {
    await using up = await startDeco(["up", "--port", "0", "--provider", "process"], {
      home: deep,
    });
    await up.until(/sign-in\?code=/);
    await access(join(runtime, "control.sock"));
    up.child.kill("SIGTERM");
    expect((await up.ended).code).toBe(143);
  }
  expect(await access(runtime).catch(() => "gone")).toBe("gone");
  await using hub = await startDeco(["hub", "--port", "0"], { home: deep });
  await hub.until(/^hub: /m);
  expect(await access(runtime).catch(() => "gone")).toBe("gone");
}, 30_000);
