import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runDeco } from "../support/run-deco.ts";

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "deco-template-"));
  await mkdir(join(home, "templates"));
});
afterEach(() => rm(home, { recursive: true, force: true }));

const haskell = {
  version: 1,
  source: { image: `example.org/haskell@sha256:${"b".repeat(64)}` },
  tier: 1,
  resources: { memoryMib: 2048 },
  labels: ["haskell"],
};

test("template ls lists the built-in ones and the config folder's, broken ones as such", async () => {
  await writeFile(join(home, "templates", "haskell.json"), JSON.stringify(haskell));
  await writeFile(join(home, "templates", "broken.json"), '{"version": 1,\n"teir": 2}');
  const { code, lines } = await runDeco(["template", "ls", "--json"], { home });
  expect(code).toBe(0);
  const { templates } = JSON.parse(lines[0] ?? "");
  expect(templates.map(({ name }: { name: string }) => name)).toEqual([
    "all",
    "broken",
    "claude-code",
    "codex",
    "haskell",
    "shell",
  ]);
  expect(templates[1]).toMatchObject({ from: "file", problem: expect.stringContaining("line 2") });
  expect(templates[4]).toMatchObject({ from: "file", template: haskell });
  expect(templates[5]).toMatchObject({ from: "built-in" });
  const folder = join(home, "templates");
  expect(JSON.parse(lines[0] ?? "").folder).toBe(folder);
  const loud = { version: 1, description: "\u001b[31mred\u0007" };
  await writeFile(join(folder, "loud.json"), JSON.stringify(loud));
  const said = await runDeco(["template", "ls"], { home });
  expect(said.stderr).toContain(folder);
  expect(said.stdout).toContain("[31mred");
  expect(said.stdout).not.toMatch(/(?!\n)\p{Cc}/u);
  expect(said.stdout).toContain("2048 MiB");
  expect(said.stdout).toContain("broken: line 2: teir");
});

test("template ls lists the runtimes as well, and says where its files are and which is broken", async () => {
  const image = `example.org/ghc@sha256:${"c".repeat(64)}`;
  const file = join(home, "runtimes.json");
  await writeFile(
    file,
    JSON.stringify({ version: 1, runtimes: { ghc: { image, labels: ["haskell"] } } }),
  );
  const { lines } = await runDeco(["template", "ls", "--json"], { home });
  const { runtimes } = JSON.parse(lines[0] ?? "");
  expect(Object.keys(runtimes).toSorted()).toEqual(["bash", "ghc", "posix"]);
  expect(runtimes.ghc).toEqual({ image, labels: ["haskell"] });
  const said = await runDeco(["template", "ls"], { home });
  expect(said.stdout).toMatch(/^ghc +example\.org\/ghc@sha256:c+ +haskell$/m);
  expect(said.stderr).toContain(file);
  await writeFile(file, '{"version": 1,\n"runtimes": {"ghc": {"image": "ghc:9"}}}');
  const broken = await runDeco(["template", "ls"], { home });
  expect(broken.code).toBe(0);
  expect(broken.stderr).toContain(`${file}: line 2: runtimes.ghc.image: is not pinned`);
});

test("template show prints one template; an unknown one names the known ones", async () => {
  await writeFile(join(home, "templates", "haskell.json"), JSON.stringify(haskell));
  const shown = await runDeco(["template", "show", "haskell", "--json"], { home });
  expect(JSON.parse(shown.lines[0] ?? "")).toMatchObject({ name: "haskell", template: haskell });
  expect(JSON.parse((await runDeco(["template", "show", "shell"], { home })).stdout)).toMatchObject(
    {
      source: { build: "harnessd" },
      tier: 2,
    },
  );
  const unknown = await runDeco(["template", "show", "cobol", "--json"], { home });
  expect(unknown.code).toBe(7);
  expect(JSON.parse(unknown.lines[0] ?? "")).toMatchObject({
    code: "capability_missing",
    knownTemplates: ["all", "claude-code", "codex", "haskell", "shell"],
  });
  await writeFile(join(home, "templates", "haskell.json"), "{");
  const broken = await runDeco(["template", "show", "haskell", "--json"], { home });
  expect(broken.code).toBe(2);
  expect(JSON.parse(broken.lines[0] ?? "").detail).toContain("line 1");
});

test("the doctor names the line of a policy, a template and a map of runtimes that are broken", async () => {
  const checks = async () => {
    const { lines } = await runDeco(["doctor", "--json"], { home });
    const found: { id: string }[] = JSON.parse(lines[0] ?? "").checks;
    return Object.fromEntries(found.map((check) => [check.id, check]));
  };
  expect(await checks()).toMatchObject({
    policy: { status: "ok", detail: expect.stringContaining("nobody has tiers 3 and 4") },
    templates: { status: "ok" },
  });
  const policy = join(home, "policy.json");
  await writeFile(policy, '{"version": 1, "tiers": {"3": ["ada"]}}', { mode: 0o600 });
  expect(await checks()).toMatchObject({
    policy: { status: "ok", detail: "tier 3: ada; tier 4: nobody; 0 folders" },
  });
  await writeFile(policy, '{"version": 1,\n"tiers": {\n"3": "ada"}}');
  await writeFile(join(home, "templates", "x.json"), '{"version": 1,\n"tier": 9}');
  await writeFile(join(home, "runtimes.json"), '{"version": 1,\n"runtimes": []}');
  const broken = await checks();
  expect(broken["policy"]).toMatchObject({
    status: "fail",
    detail: expect.stringContaining("policy.json: line 3"),
    fix: expect.stringContaining("grants nothing"),
  });
  expect(broken["templates"]).toMatchObject({
    status: "fail",
    detail: expect.stringMatching(/x\.json: line 2.*runtimes\.json: line 2/),
  });
}, 60_000);
