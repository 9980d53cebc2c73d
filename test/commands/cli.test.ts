import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import manifest from "../../package.json" with { type: "json" };
import { SETTINGS } from "../../src/daemon/config.ts";
import { type DecoOptions, runDeco } from "../support/run-deco.ts";

let home: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "deco-cli-"));
});
afterAll(() => rm(home, { recursive: true, force: true }));

for (const runtime of ["bun", "node"] as const) {
  const deco = (args: string[], more: Partial<DecoOptions> = {}) =>
    runDeco(args, { runtime, home, ...more });

  describe(`deco on ${runtime}`, () => {
    test("--version prints the package's version and nothing else", async () => {
      const { code, stdout, stderr } = await deco(["--version"]);
      expect({ code, stdout, stderr }).toEqual({
        code: 0,
        stdout: `${manifest.version}\n`,
        stderr: "",
      });
    });

    test("help names every command of this version", async () => {
      const { code, stdout } = await deco(["help"]);
      expect(code).toBe(0);
      for (const name of "up hub login link status run runs sandbox image doctor smoke".split(" "))
        expect(stdout).toMatch(new RegExp(`^  ${name}\\b`, "m"));
    });

    test("help of a command shows its flags", async () => {
      const { code, stdout } = await deco(["help", "up"]);
      expect(code).toBe(0);
      expect(stdout).toContain("--allow-unconfined");
    });

    test.each([
      [["--nonsense"]],
      [["nonsense"]],
      [["up", "--port", "70000"]],
      [["up", "--provider", "jail"]],
      [["run"]],
      [["hub", "token"]],
      [[]],
    ])("%p is a usage error: exit 2, nothing on stdout", async (args) => {
      const { code, stdout, stderr } = await deco(args);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).not.toBe("");
    });

    test("a usage error with --json prints one problem document", async () => {
      const { code, lines } = await deco(["status", "--json", "--nonsense"]);
      expect({ code, count: lines.length }).toEqual({ code: 2, count: 1 });
      expect(JSON.parse(lines[0] ?? "")).toMatchObject({ ok: false, code: "usage" });
    });

    test("status without a daemon answers not_running within a second, exit 3", async () => {
      const { code, lines } = await deco(["status", "--json"]);
      expect(code).toBe(3);
      expect(lines.map((line) => JSON.parse(line))).toEqual([{ state: "not_running" }]);
    });

    test("run without a hub says what to do, exit 3", async () => {
      const { code, stdout, stderr } = await deco(["run", "--", "true"]);
      expect({ code, stdout }).toEqual({ code: 3, stdout: "" });
      expect(stderr).toMatch(/^error: .*\nfix: .*deco up/m);
    });

    test("run against a port where nothing listens is exit 5, with a problem document", async () => {
      const env = { DECO_TOKEN: "x" };
      const { code, lines } = await deco(
        ["run", "--json", "--hub", "http://127.0.0.1:9", "--", "true"],
        { env },
      );
      expect(code).toBe(5);
      expect(JSON.parse(lines[0] ?? "")).toMatchObject({ code: "hub_unreachable" });
    });

    test("run with a hub and no token is exit 4", async () => {
      const { code } = await deco(["run", "--hub", "http://127.0.0.1:9", "--", "true"]);
      expect(code).toBe(4);
    });

    test("a wrong setting in the environment is a usage error that names it", async () => {
      const { code, stderr } = await deco(["run", "--", "true"], {
        env: { DECO_MAX_RUNS: "many" },
      });
      expect(code).toBe(2);
      expect(stderr).toContain("DECO_MAX_RUNS");
    });
  });
}

test("every setting of the daemon has its flag in deco link, with a help text", async () => {
  const { stdout } = await runDeco(["help", "link"], { home });
  for (const { flag } of Object.values(SETTINGS)) {
    const [name = ""] = flag.split(" ");
    expect(stdout).toMatch(new RegExp(`^  ${name}\\b.* {2,}\\S|^  ${name} <\\S+>$`, "m"));
  }
});

test("doctor on a home that never was finds its folders and its disk in order", async () => {
  const { lines } = await runDeco(["doctor", "--json"], { home: join(home, "new") });
  const { checks }: { checks: { id: string; status: string; fix?: string }[] } = JSON.parse(
    lines[0] ?? "",
  );
  const found = Object.fromEntries(checks.map(({ id, status }) => [id, status]));
  expect(found).toMatchObject({ runtime: "ok", home: "ok", daemon: "warn", hub: "skip" });
  expect(found["disk"]).not.toBe("fail");
  expect(checks.filter(({ status, fix }) => /warn|fail/.test(status) && !fix)).toEqual([]);
});
