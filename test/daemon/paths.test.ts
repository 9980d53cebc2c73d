import { expect, test } from "bun:test";
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { SETTINGS } from "../../src/daemon/config.ts";
import { makePaths, resolvePaths, SOCKET_PATH_BYTES } from "../../src/daemon/paths.ts";

const linux = { platform: "linux", home: "/home/u", tmp: "/tmp", uid: 1000 } as const;

test("DECO_HOME puts every file below itself", () => {
  const paths = resolvePaths({ ...linux, env: { DECO_HOME: "/srv/a" } });
  for (const path of Object.values(paths)) expect(path).toStartWith("/srv/a");
});

test("without DECO_HOME files follow XDG, and relative XDG values are ignored", () => {
  const env = { XDG_CONFIG_HOME: "/x/cfg", XDG_STATE_HOME: "rel", XDG_RUNTIME_DIR: "/run/user/1" };
  const paths = resolvePaths({ ...linux, env });
  expect(paths.configFile).toBe("/x/cfg/deco-link/config.json");
  expect(paths.machineFile).toBe("/home/u/.local/state/deco-link/machine.json");
  expect(paths.controlSocket).toBe("/run/user/1/deco-link/control.sock");
});

test("on macOS files live below ~/Library", () => {
  const paths = resolvePaths({ ...linux, platform: "darwin", home: "/Users/u", env: {} });
  for (const path of Object.values(paths)) expect(path).toStartWith("/Users/u/Library/");
});

test("sockets of a deep home move to a short folder that is the home's own", () => {
  const one = resolvePaths({ ...linux, env: deep("a") });
  const two = resolvePaths({ ...linux, env: deep("b") });
  const again = resolvePaths({ ...linux, env: deep("a") });
  expect(one.controlSocket.length).toBeLessThan(SOCKET_PATH_BYTES);
  expect(one.runtime).toStartWith("/tmp/deco-1000-");
  expect(one.runtime).not.toBe(two.runtime);
  expect(one.runtime).toBe(again.runtime);
});

test("a long temporary folder (macOS) falls back to /tmp", () => {
  const env = { DECO_HOME: `/srv/${"long/".repeat(30)}` };
  const paths = resolvePaths({ ...linux, env, tmp: `/var/folders/${"x".repeat(40)}/T` });
  expect(paths.runtime).toStartWith("/tmp/deco-1000-");
});

test("folders are made private, and an open runtime folder is closed again", async () => {
  await using home = await folder();
  const paths = resolvePaths({ env: { DECO_HOME: join(home.dir, "h") } });
  await makePaths(paths);
  await chmod(paths.runtime, 0o755);
  await makePaths(paths);
  for (const dir of [paths.state, paths.runtime, paths.runRoot]) {
    expect((await stat(dir)).mode & 0o777).toBe(0o700);
  }
});

test("a runtime folder that is a link to elsewhere is refused", async () => {
  await using home = await folder();
  const paths = resolvePaths({ env: { DECO_HOME: join(home.dir, "h") } });
  await mkdir(join(home.dir, "h"));
  await symlink(home.dir, paths.runtime);
  await expect(makePaths(paths)).rejects.toMatchObject({ code: "storage_failed" });
});

test("a home that can't be made is a typed error", async () => {
  const paths = resolvePaths({ env: { DECO_HOME: "/dev/null/x" } });
  await expect(makePaths(paths)).rejects.toMatchObject({ code: "storage_failed" });
});

function deep(name: string) {
  return { DECO_HOME: `/srv/${"long/".repeat(30)}${name}` };
}

async function folder() {
  const dir = await mkdtemp(join(tmpdir(), "deco-p-"));
  return { dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) };
}

test("docs/files.md names every file and every setting", async () => {
  const page = await readFile(join(import.meta.dir, "../../docs/files.md"), "utf8");
  const paths = resolvePaths({ ...linux, env: { DECO_HOME: "/srv/a" } });
  for (const path of Object.values(paths)) expect(page).toContain(basename(path));
  for (const [name, { env }] of Object.entries(SETTINGS)) {
    expect(page).toContain(`| \`${name}\` | \`${env}\` |`);
  }
});
