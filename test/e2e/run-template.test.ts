import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { leftovers, type Snapshot, takeSnapshot } from "../support/leftovers.ts";
import { type RunningDeco, runDeco, startDeco } from "../support/run-deco.ts";

let home: string;
let before: Snapshot;
let up: RunningDeco;
const deco = (args: string[], env: Record<string, string> = {}) => runDeco(args, { home, env });

const greeting = {
  version: 1,
  env: { GREETING: "hello from the template", NAME: "nobody" },
  files: { "bin/greet": { text: '#!/bin/sh\necho "$GREETING, $NAME: $KEY"\n', mode: "0755" } },
  requires: { env: ["KEY"], files: ["bin/greet"] },
};

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "deco-rt-"));
  await mkdir(join(home, "templates"));
  await writeFile(join(home, "templates", "greeting.json"), JSON.stringify(greeting));
  await writeFile(join(home, "templates", "broken.json"), '{"version": 1,\n"teir": 2}');
  before = await takeSnapshot(home);
  up = await startDeco(["up", "--port", "0", "--provider", "process"], { home });
  await up.until(/sign-in\?code=/);
}, 60_000);

afterAll(async () => {
  await up?.[Symbol.asyncDispose]();
  const left = await leftovers(home, before);
  await rm(home, { recursive: true, force: true });
  expect(left).toEqual([]);
}, 60_000);

const ways: [string, string[]][] = [
  ["through the hub", []],
  ["--local", ["--local"]],
];

test.each(ways)(
  "%s a run has its template's files and environment, under its own",
  async (_how, flags) => {
    const own = ["--env", "NAME=ada = eve", "--env", "KEY"];
    const argv = ["run", ...flags, "--template", "greeting", ...own, "--", "bin/greet"];
    const run = await deco(argv, { KEY: "canary-4711" });
    expect(run).toMatchObject({ code: 0 });
    expect(run.stdout).toContain("hello from the template, ada = eve: canary-4711");
  },
  60_000,
);

test.each(ways)(
  "%s a template that lacks something, is broken or is none is refused with what mends it",
  async (_how, flags) => {
    const run = async (name: string) =>
      await deco(["run", ...flags, "--json", "--template", name, "--", "true"]);
    const refused = async (name: string) => {
      const { code, lines } = await run(name);
      return { code, ...JSON.parse(lines.at(-1) ?? "{}") };
    };
    expect(await refused("greeting")).toMatchObject({
      code: "invalid_request",
      fix: expect.stringContaining("--env KEY of `deco run`"),
    });
    expect((await run("greeting")).code).toBe(1);
    const broken = await refused("broken");
    expect(broken).toMatchObject({ code: "capability_missing" });
    expect(broken.detail).toContain("line 2: teir");
    expect((await run("broken")).code).toBe(7);
    expect((await refused("cobol")).knownTemplates).toContain("greeting");
    expect((await run("cobol")).code).toBe(7);
  },
  60_000,
);

test("a variable that is none is a usage error, which repeats no value", async () => {
  for (const wrong of ["1X=canary-4712", "NOT_SET_HERE", "=canary-4712"]) {
    const run = await deco(["run", "--env", wrong, "--", "true"]);
    expect(run.code).toBe(2);
    expect(run.stderr).toContain("export NAME");
    expect(run.stdout + run.stderr).not.toContain("canary-4712");
  }
});
