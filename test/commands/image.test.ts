import { afterAll, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runDeco, startDeco } from "../support/run-deco.ts";

const home = await mkdtemp(join(tmpdir(), "deco-im-"));
const path = join(home, "docker.sock");
let deleted: string[] = [];
const used = new Set<string>();
/** Role label of its containers. */
let role = "";

const IMAGES = [
  { name: "harnessd", hex: "aaaaaaaaaaaa", created: 100 },
  { name: "harnessd", hex: "bbbbbbbbbbbb", created: 200 },
  { name: "harnessd", hex: "cccccccccccc", created: 300 },
  { name: "harnessd", hex: "dddddddddddd", created: 50, arch: "arm64" },
  { name: "codex", hex: "eeeeeeeeeeee", created: 60 },
].map(({ name, hex, created, arch = "amd64" }) => {
  const tag = `deco-link/${name}:${hex}`;
  const Labels = { "dev.deco-link.image": name, "dev.deco-link.content": tag };
  return { Id: `sha256:${hex}`, RepoTags: [tag], Labels, Size: 1e6, Created: created, arch };
});

/** The far side: an engine that has these images, and tells which ones it was told to remove. */
const engine = createServer((request, response) => {
  const url = decodeURIComponent(request.url ?? "").split("?")[0] ?? "";
  const name = url.replace(/^\/images\//, "").replace(/\/json$/, "");
  const one = IMAGES.find(({ Id, RepoTags }) => Id === name || RepoTags.includes(name));
  response.setHeader("content-type", "application/json");
  if (request.method === "DELETE") deleted.push(name);
  if (url === "/images/json") response.end(JSON.stringify(IMAGES));
  else if (url === "/containers/json") response.end(JSON.stringify([...used].map(containerOf)));
  else if (one !== undefined)
    response.end(JSON.stringify({ ...one, Os: "linux", Architecture: one.arch, Config: {} }));
  else response.writeHead(404).end("{}");
});
const containerOf = (hex: string) => ({
  ImageID: `sha256:${hex}`,
  Names: ["/deco-12-w-ab"],
  Labels: {
    "dev.deco-link.role": role,
    "dev.deco-link.instance": "12",
    "dev.deco-link.handle": "w-ab",
  },
});
await new Promise<void>((resolve) => engine.listen(path, resolve));
afterAll(async () => {
  engine.closeAllConnections();
  await new Promise<void>((resolve) => engine.close(() => resolve()));
  await rm(home, { recursive: true });
});
beforeEach(() => {
  deleted = [];
  used.clear();
  role = "";
});

const image = (...args: string[]) =>
  runDeco(["image", ...args], { home, env: { DOCKER_HOST: `unix://${path}` } });

test("the list says which images are in use, and which a newer one replaced", async () => {
  used.add("aaaaaaaaaaaa");
  const { stdout, code } = await image("ls");
  expect(code).toBe(0);
  expect(stdout).toMatch(/aaaaaaaaaaaa .*by 1 /);
  expect(stdout).toMatch(/bbbbbbbbbbbb .*no, old /);
  for (const newest of ["cccccccccccc", "dddddddddddd", "eeeeeeeeeeee"])
    expect(stdout).toMatch(new RegExp(`${newest} .*no  `));
  expect(stdout).toContain("1 old of 5: `deco image rm --old` removes them");
});

test("old ones go, and neither what is in use nor the newest of its build and platform", async () => {
  used.add("aaaaaaaaaaaa");
  const { stdout, code } = await image("rm", "--old");
  expect({ stdout, code }).toEqual({
    stdout: "removed deco-link/harnessd:bbbbbbbbbbbb\n",
    code: 0,
  });
  expect(deleted).toEqual(["deco-link/harnessd:bbbbbbbbbbbb"]);
});

test("where one of those that are named is in use, none goes, and all that are in use are told", async () => {
  used.add("aaaaaaaaaaaa").add("cccccccccccc");
  const { stderr, code } = await image("rm", "codex", "harnessd");
  expect(code).toBe(9);
  expect(stderr).toContain("deco-link/harnessd:aaaaaaaaaaaa by 1; deco-link/harnessd:cccccccccccc");
  expect(deleted).toEqual([]);
});

test.each([[[]], [["--old", "--unused"]], [["codex", "--old"]]])(
  "image rm %p is wrong usage",
  async (args) => {
    expect((await image("rm", ...args)).code).toBe(2);
    expect(deleted).toEqual([]);
  },
);

test("a build says what it does before it has an image to name", async () => {
  const env = { DOCKER_HOST: `unix://${path}` };
  await using deco = await startDeco(["image", "build"], { home, env });
  await deco.until(/ {2}preparing harnessd\n/);
});

for (const made of ["pause", "warm"]) {
  test(`an image that only what is made ahead uses (${made}) is told with what ends that, not with sandboxes`, async () => {
    used.add("eeeeeeeeeeee");
    role = made;
    expect((await image("ls")).stdout).toMatch(/eeeeeeeeeeee .*by 1 made ahead /);
    const { stderr, code } = await image("rm", "codex");
    expect(code).toBe(9);
    expect(stderr).toContain("end `deco up` or `deco link`");
    expect(stderr).not.toContain("deco sandbox rm");
    expect(deleted).toEqual([]);
  });
}
