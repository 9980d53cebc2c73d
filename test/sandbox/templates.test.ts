import { afterAll, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { chmod, chown, mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DecoError } from "../../src/protocol/errors.ts";
import type { SandboxSpec } from "../../src/protocol/messages.ts";
import { wantedSandbox } from "../../src/sandbox/sandbox-spec.ts";
import { BUILTIN_TEMPLATES } from "../../src/sandbox/templates/builtin.ts";
import { listTemplates } from "../../src/sandbox/templates/read-templates.ts";
import { resolveSpec } from "../../src/sandbox/templates/resolve.ts";
import { Template } from "../../src/sandbox/templates/template.ts";

const home = await mkdtemp(join(tmpdir(), "deco-t-"));
afterAll(() => rm(home, { recursive: true }));
const places = { templates: join(home, "templates"), runtimes: join(home, "runtimes.json") };
await mkdir(places.templates);

const DIGEST = `sha256:${"a".repeat(64)}`;
const template = (name: string, value: unknown) =>
  writeFile(join(places.templates, `${name}.json`), JSON.stringify(value));
const resolve = (spec: SandboxSpec) => resolveSpec(spec, places);
const wanted = (spec: SandboxSpec) => wantedSandbox(resolve(spec), "docker", { egress: "open" });

const files = (...paths: string[]) =>
  Template.safeParse({
    version: 1,
    files: Object.fromEntries(paths.map((path) => [path, { text: "" }])),
  });

function refusal(work: () => unknown): DecoError {
  try {
    work();
  } catch (thrown) {
    return DecoError.from(thrown);
  }
  throw new Error("nothing was refused");
}

test("there is one built-in template each for shell, claude-code, codex and all", () => {
  expect(Object.keys(BUILTIN_TEMPLATES)).toEqual(["shell", "claude-code", "codex", "all"]);
  for (const [name, one] of Object.entries(BUILTIN_TEMPLATES)) {
    expect(Template.parse(one)).toEqual(one);
    expect(wanted({ template: name })).toMatchObject({ tier: 2, workspace: { mode: "none" } });
  }
  expect(wanted({ template: "shell" })).toMatchObject({ build: "harnessd", memoryMib: 512 });
});

test("a template fills in what the request leaves open; what the request says wins", async () => {
  await template("haskell", {
    version: 1,
    source: { image: `example.org/haskell@${DIGEST}`, platform: "linux/amd64" },
    harnesses: ["shell"],
    tier: 1,
    resources: { memoryMib: 2048, cpus: 2 },
    env: { LANG: "C", GHC: "9" },
    egress: "none",
    workspace: { mode: "git", url: "https://example.org/x.git" },
    readyBudgetMs: 60_000,
    labels: ["haskell", "ghc-9"],
  });
  expect(wanted({ template: "haskell" })).toMatchObject({
    image: `example.org/haskell@${DIGEST}`,
    platform: "linux/amd64",
    tier: 1,
    memoryMib: 2048,
    cpus: 2,
    pids: 128,
    egress: "none",
    workspace: { mode: "git" },
    readyBudgetMs: 60_000,
    labels: ["haskell", "ghc-9"],
  });
  expect(resolve({ template: "haskell" }).env).toEqual({ GHC: "9", LANG: "C" });
  const mine: SandboxSpec = {
    template: "haskell",
    image: "mine:1",
    tier: 2,
    resources: { cpus: 1 },
    env: { LANG: "C.UTF-8" },
    egress: "open",
    workspace: { mode: "none" },
    ports: [3000, 80, 80],
  };
  expect(resolve(mine).env).toEqual({ GHC: "9", LANG: "C.UTF-8" });
  const own = wanted(mine);
  expect(own).toMatchObject({
    image: "mine:1",
    tier: 2,
    memoryMib: 2048,
    cpus: 1,
    egress: "open",
    workspace: { mode: "none" },
    ports: [80, 3000],
  });
  // Nothing is known of what another image has.
  expect(own.platform).toBeUndefined();
  expect(resolve({ template: "haskell", image: "mine:1" }).facts?.harnesses).toBeUndefined();
  // An unknown tier of the request is tier 2, and wins all the same.
  expect(wanted({ template: "haskell", tier: 0, egress: "open" }).tier).toBe(2);
});

test("an unknown template is refused with the known ones, whatever its name looks like", () => {
  for (const name of ["nope", "../policy", "a/b", "constructor", "x".repeat(200)]) {
    const error = refusal(() => resolve({ template: name }));
    expect([error.code, error.info.status]).toEqual(["capability_missing", 409]);
    expect(error.fix).toContain("all, claude-code, codex");
    expect(error.extensions["knownTemplates"]).toContain("shell");
  }
});

test("a broken template is refused with its line, is listed as such, and hides no other", async () => {
  await writeFile(
    join(places.templates, "broken.json"),
    '{\n"version": 1,\n"source": {"image": "debian:12"}\n}',
  );
  const error = refusal(() => resolve({ template: "broken" }));
  expect(error.code).toBe("capability_missing");
  expect(error.message).toContain("line 3: source");
  const all = listTemplates(places.templates);
  expect(all.find(({ name }) => name === "broken")).toMatchObject({
    problem: error.message.slice(23),
  });
  expect(all.find(({ name }) => name === "shell")).toMatchObject({ from: "built-in" });
  await rm(join(places.templates, "broken.json"));
});

test("what is no settings file of the owner's is refused with the reason, and holds nobody up", async () => {
  const path = join(places.templates, "odd.json");
  const problem = () => {
    const found = listTemplates(places.templates).find(({ name }) => name === "odd");
    return found !== undefined && "problem" in found ? found.problem : "nothing";
  };
  const good = '{"version": 1}';
  // Nobody writes to it: who opens it as a file waits for ever.
  execFileSync("sh", ["-c", 'mkfifo "$0"', path]);
  expect(problem()).toBe("is no file");
  await rm(path);
  await mkdir(path);
  expect(problem()).toBe("is no file");
  await rm(path, { recursive: true });
  await writeFile(path, good);
  await truncate(path, 8 * 1024 ** 3);
  expect(problem()).toContain("8589934592 bytes");
  await writeFile(path, good);
  await chmod(path, 0o666);
  expect(problem()).toContain("may be written by others");
  await chmod(path, 0o664);
  expect(problem()).toBe("nothing");
  if (process.getuid?.() === 0) {
    await chown(path, 4711, 0);
    expect(problem()).toContain("belongs to uid 4711");
    await chown(path, 0, 0);
  }
  await writeFile(path, Buffer.from(good, "utf16le"));
  expect(problem()).toContain("line 1");
  await writeFile(path, Buffer.from([0x22, 0xff, 0x22]));
  expect(problem()).toBe("is not UTF-8");
  await writeFile(path, `\uFEFF${good}`);
  expect(problem()).toBe("nothing");
  await rm(path);
});

test("a file whose name no run can ask for is listed with the reason, and not among the known ones", async () => {
  for (const name of ["Haskell", "my.template", ".hidden"]) await template(name, { version: 1 });
  await template("broken", { version: 2 });
  const names = listTemplates(places.templates).map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["Haskell", "my.template", "broken"]));
  expect(names).not.toContain(".hidden");
  const error = refusal(() => resolve({ template: "Haskell" }));
  expect(error.extensions["knownTemplates"]).not.toContain("Haskell");
  expect(error.extensions["knownTemplates"]).not.toContain("broken");
  for (const name of ["Haskell", "my.template", ".hidden", "broken"]) {
    await rm(join(places.templates, `${name}.json`));
  }
});

test("a name that is wrong is told with why, on its line", async () => {
  const file = join(places.templates, "names.json");
  await writeFile(file, '{"version": 1,\n"env": {"A": "1",\n"GR\u00dcN": "2"}}');
  expect(refusal(() => resolve({ template: "names" })).message).toContain(
    "line 3: env.GR\u00dcN: is no name of a variable",
  );
  await writeFile(file, '{"version": 1,\n"files": {"a/../b": {"text": ""}}}');
  expect(refusal(() => resolve({ template: "names" })).message).toContain(
    "line 2: files.a/../b: must be a path below the workspace",
  );
  await rm(file);
});

test("a source that is none is told what one is made of", async () => {
  const file = join(places.templates, "source.json");
  for (const source of [{}, { build: "ghc" }, { image: `x@${DIGEST}`, build: "all" }, "debian"]) {
    await writeFile(file, `{"version": 1,\n"source": ${JSON.stringify(source)}}`);
    const { message } = refusal(() => resolve({ template: "source" }));
    expect(message).toContain("line 2: source");
    expect(message).toContain("harnessd, claude-code, codex, all");
    expect(message).toContain("runtime");
  }
  await rm(file);
});

test("a file of the config folder wins over a built-in template of its name", async () => {
  await template("shell", { version: 1, source: { build: "harnessd" }, labels: ["mine"] });
  expect(wanted({ template: "shell" }).labels).toEqual(["mine"]);
  await rm(join(places.templates, "shell.json"));
  expect(wanted({ template: "shell" }).labels).toEqual(["shell"]);
});

test("files of a template stay below the workspace", () => {
  for (const path of ["/etc/passwd", "../x", "a/../../x", "a//b", ".", "a/./b", "a\\b", "a\0b"]) {
    expect(Template.safeParse({ version: 1, files: { [path]: { text: "" } } }).success).toBe(false);
  }
  const good = { version: 1, files: { "src/main.hs": { text: "main", mode: "0755" } } };
  expect(Template.safeParse(good).success).toBe(true);
  // Their sandbox would be made, and then not take them.
  expect(files("a/b/c", "a/b").error?.issues[0]?.message).toBe("is below a/b, which is a file");
  expect(files("a/b", "a/bc", "ab").success).toBe(true);
  expect(files("ü".repeat(127)).success).toBe(true);
  expect(files(`x/${"ü".repeat(128)}`).success).toBe(false);
});

test("a variable that the template requires is given by request or template, else it is a 400", async () => {
  await template("needs", { version: 1, requires: { env: ["KEY"] } });
  const error = refusal(() => resolve({ template: "needs" }));
  expect([error.code, error.info.status]).toEqual(["invalid_request", 400]);
  expect(error.message).toContain("KEY");
  expect(resolve({ template: "needs", env: { KEY: "x" } }).env).toEqual({ KEY: "x" });
});

test("a runtime stands for its image; an unknown one is refused with the known ones", async () => {
  const node = { image: `node@${DIGEST}`, labels: ["node", "javascript"] };
  await writeFile(places.runtimes, JSON.stringify({ version: 1, runtimes: { node } }));
  expect(wanted({ runtime: "node" })).toMatchObject({
    image: `node@${DIGEST}`,
    labels: ["node", "javascript"],
  });
  await template("web", { version: 1, source: { runtime: "node" }, labels: ["web"] });
  expect(wanted({ template: "web" })).toMatchObject({
    image: `node@${DIGEST}`,
    labels: ["node", "javascript", "web"],
  });
  expect(wanted({ template: "web", runtime: "posix" })).toMatchObject({
    image: undefined,
    build: "harnessd",
  });
  for (const name of ["cobol", "toString", "node "]) {
    const error = refusal(() => resolve({ runtime: name }));
    expect([error.code, error.info.status]).toEqual(["capability_missing", 409]);
    expect(error.extensions["knownRuntimes"]).toEqual(["bash", "node", "posix"]);
  }
  const both = refusal(() => resolve({ runtime: "node", image: "x" }));
  expect(both.code).toBe("invalid_request");
});

test("a broken map of runtimes has none of the owner's, and says why", async () => {
  await writeFile(places.runtimes, '{"version": 1,\n"runtimes": {"node": {"image": "node:22"}}}');
  const error = refusal(() => resolve({ runtime: "node" }));
  expect(error.message).toContain("line 2");
  expect(error.message).toContain("not pinned");
  await writeFile(places.runtimes, '{"version": 1,\n"runtimes": {"node": {"build": "node"}}}');
  expect(refusal(() => resolve({ runtime: "node" })).message).toContain("harnessd, claude-code");
  expect(wanted({ runtime: "posix" }).build).toBe("harnessd");
});

test("what can't be had together is refused, and never weakened", () => {
  const refused: SandboxSpec[] = [
    { tier: 1, egress: "open" },
    { tier: 1, workspace: { mode: "read_only", path: "/x" } },
    { tier: 1, ports: [80] },
    { tier: 4, egress: "none" },
    { tier: 4, ports: [80] },
    { egress: "none", ports: [80] },
    { network: { thread: true } },
  ];
  for (const spec of refused) {
    expect(refusal(() => wanted(spec)).code).toBe("isolation_unavailable");
  }
  expect(wanted({ tier: 1 }).egress).toBe("none");
});
