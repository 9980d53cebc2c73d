import { afterAll, beforeAll, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { resolvePaths } from "../../src/daemon/paths.ts";
import { httpRequest } from "../../src/net/http-request.ts";
import { leftovers, type Snapshot, takeSnapshot } from "../support/leftovers.ts";
import { type RunningDeco, runDeco, startDeco } from "../support/run-deco.ts";

let home: string;
let work: string;
let before: Snapshot;
let up: RunningDeco;
const deco = (args: string[], env: Record<string, string> = {}) => runDeco(args, { home, env });

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "deco-sync-"));
  work = await mkdtemp(join(tmpdir(), "deco-work-"));
  before = await takeSnapshot(home);
  up = await startDeco(["up", "--port", "0", "--provider", "process"], { home });
  await up.until(/sign-in\?code=/);
}, 60_000);

afterAll(async () => {
  await up?.[Symbol.asyncDispose]();
  const left = await leftovers(home, before);
  await rm(home, { recursive: true, force: true });
  await rm(work, { recursive: true, force: true });
  expect(left).toEqual([]);
}, 60_000);

async function project(name: string): Promise<string> {
  const dir = join(work, name);
  await mkdir(join(dir, "src"), { recursive: true });
  await writeFile(join(dir, "src", "a.txt"), "from here\n");
  await writeFile(join(dir, "build.sh"), "mkdir -p dist/sub; cat src/a.txt >dist/sub/out.txt\n");
  await chmod(join(dir, "build.sh"), 0o755);
  await writeFile(join(dir, ".env"), "SECRET=1\n");
  await writeFile(join(dir, ".gitignore"), ".env\n");
  execFileSync("git", ["init", "-q"], { cwd: dir });
  return dir;
}

test.each([
  ["through the hub", []],
  ["--local", ["--local"]],
] as [string, string[]][])(
  "%s a folder goes in, without what git ignores, and its results come back",
  async (_how, flags) => {
    const dir = await project(`p${flags.length}`);
    const script =
      "./build.sh; ls -A; ln -s /etc/passwd dist/link; mkdir -p dist/.git/hooks; echo x >dist/.git/hooks/pre-commit";
    const run = await deco(["run", ...flags, "--sync", dir, "--fetch", "dist/**", "--", script]);
    expect({ code: run.code, stderr: run.stderr }).toMatchObject({ code: 0 });
    expect(run.stdout).toContain("build.sh\ndist\nsrc\n");
    expect(run.stdout).not.toMatch(/\.env|\.git\n/);
    expect(await readFile(join(dir, "dist/sub/out.txt"), "utf8")).toBe("from here\n");
    expect(existsSync(join(dir, "dist/link"))).toBe(false);
    expect(existsSync(join(dir, "dist/.git"))).toBe(false);
    expect(run.stderr).toContain("not fetched: dist/.git/hooks/pre-commit");
  },
  60_000,
);

test("what is fetched goes through no link that stands here", async () => {
  const dir = await project("links");
  await mkdir(join(work, "elsewhere"));
  await symlink(join(work, "elsewhere"), join(dir, "dist"));
  await writeFile(join(dir, ".gitignore"), "dist\n");
  const run = await deco([
    "run",
    "--sync",
    dir,
    "--fetch",
    "dist/**",
    "--",
    "mkdir dist; echo x >dist/f",
  ]);
  expect(run.code).toBe(1);
  expect(run.stderr).toContain('"dist" is no folder');
  expect(existsSync(join(work, "elsewhere/f"))).toBe(false);
}, 60_000);

test("the second run of a thread waits for its own files", async () => {
  const dir = await project("thread");
  const args = ["run", "--thread", "t1", "--sync", dir, "--", "cat src/a.txt"];
  expect((await deco(args)).stdout).toContain("from here");
  await writeFile(join(dir, "src", "a.txt"), "changed\n");
  expect((await deco(args)).stdout).toContain("changed");
  // A thread's sandbox stays, also beyond the daemon.
  const { sandboxes } = JSON.parse((await deco(["sandbox", "ls", "--json"])).stdout);
  const handles = sandboxes.map(({ handle }: { handle: string }) => handle);
  await deco(["sandbox", "rm", ...handles.filter((name: string) => name.startsWith("t-"))]);
}, 60_000);

test("a fetch that matches nothing is a failure, so is a folder that is not there, and --detach", async () => {
  const none = await deco(["run", "--fetch", "*.none", "--", "true"]);
  expect(none.code).toBe(1);
  expect(none.stderr).toContain("nothing in the workspace matches *.none");
  const nowhere = await deco(["run", "--sync", join(work, "nowhere"), "--", "true"]);
  expect(nowhere.code).toBe(2);
  const detached = await deco(["run", "--detach", "--fetch", "x", "--", "true"]);
  expect(detached.code).toBe(2);
}, 60_000);

test("an upload that is refused cancels the run that waits for it", async () => {
  const dir = await project("hostile");
  await symlink("/etc/passwd", join(dir, "out"));
  const run = await deco(["run", "--sync", dir, "--", "true"]);
  expect(run.code).toBe(1);
  expect(run.stderr).toContain("is a link that leaves the folder");
  const { stdout } = await deco(["runs", "ls", "--json"]);
  const [newest] = JSON.parse(stdout).runs;
  const logs = await deco(["runs", "logs", newest.runId, "-f", "--json"]);
  expect(logs.lines.at(-1)).toContain("run.cancelled");
}, 60_000);

test("the hub's routes give one file, refuse bad paths and other users' runs, and keep nothing", async () => {
  const paths = resolvePaths({ env: { DECO_HOME: home } });
  const { hub, token } = JSON.parse(await readFile(join(paths.runtime, "up.json"), "utf8"));
  const detached = await deco(["run", "--detach", "--json", "--", "echo content >f; chmod 640 f"]);
  const { runId } = JSON.parse(detached.lines[0] ?? "");
  await deco(["runs", "logs", runId, "-f"]);
  const ask = (path: string, o: { method?: string; token?: string; body?: string } = {}) =>
    httpRequest({
      url: `${hub}/api/runs/${runId}/${path}`,
      method: o.method ?? "GET",
      headers: { authorization: `Bearer ${o.token ?? token}`, "content-type": "application/x-tar" },
      body: o.body,
      signal: AbortSignal.timeout(20_000),
    });
  const file = await ask("files?path=f");
  expect(file.status).toBe(200);
  expect(file.headers.get("content-disposition")).toBe("attachment");
  expect(await file.text()).toBe("content\n");
  const codeOf = async (path: string, o = {}) => {
    const answer = await ask(path, o);
    return `${answer.status} ${/"code":"(\w+)"/.exec(await answer.text())?.[1]}`;
  };
  expect(await codeOf("files?path=none")).toBe("404 file_not_found");
  for (const path of ["../x", "/etc/passwd", ""]) {
    expect(await codeOf(`files?path=${encodeURIComponent(path)}`)).toBe("400 invalid_request");
  }
  expect(await codeOf("archive?ref=a/b", { method: "PUT", body: "x" })).toBe("400 invalid_request");
  expect(await codeOf("archive", { method: "PUT", body: "no tar" })).toBe("400 archive_invalid");
  expect(await codeOf("files?path=f", { token: "nobody" })).toBe("401 unauthorized");
}, 60_000);
