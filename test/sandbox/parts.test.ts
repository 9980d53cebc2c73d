import { afterAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deferred } from "../../src/protocol/deferred.ts";
import { missingWithoutRoot } from "../../src/sandbox/drivers/process/without-root.ts";
import { ensureHarnessdBinary, harnessdSource } from "../../src/sandbox/harnessd-binary.ts";
import { findBusybox } from "../../src/sandbox/images/busybox.ts";
import { recipe } from "../../src/sandbox/images/recipes.ts";
import { Rollback } from "../../src/sandbox/rollback.ts";
import { runCommand } from "../../src/sandbox/run-command.ts";
import {
  listRecords,
  makeRunDir,
  newToken,
  removeRunDir,
  renewRunDir,
  runDirOf,
} from "../../src/sandbox/run-dir.ts";
import { wantedSandbox } from "../../src/sandbox/sandbox-spec.ts";
import { Semaphore } from "../../src/sandbox/semaphore.ts";
import { SharedWork } from "../../src/sandbox/shared-work.ts";
import { CACHE_DIR, quietLog } from "../suites/sandbox-provider-suite.ts";

const signal = AbortSignal.timeout(120_000);
const directory = await mkdtemp(join(tmpdir(), "deco-p-"));
afterAll(() => rm(directory, { recursive: true }));

const hashOf = (spec: Parameters<typeof wantedSandbox>[0]) =>
  wantedSandbox(spec, "docker", { egress: "open" }).hash;

describe("shared work", () => {
  test("is done once for callers at the same time, and again for later ones", async () => {
    const works = new SharedWork<number>();
    let count = 0;
    const start = async () => ++count;
    const both = await Promise.all([works.run("k", signal, start), works.run("k", signal, start)]);
    expect(both).toEqual([1, 1]);
    expect(await works.run("k", signal, start)).toBe(2);
  });

  test("goes on when one caller leaves, is aborted when the last one does, and is then over", async () => {
    const works = new SharedWork<string>();
    const gate = deferred();
    let ended = false;
    const start = async (inner: AbortSignal) => {
      inner.addEventListener("abort", () => gate.resolve());
      await gate.promise;
      ended = true;
      inner.throwIfAborted();
      return "done";
    };
    const [one, two] = [new AbortController(), new AbortController()];
    const first = works.run("k", one.signal, start);
    const second = works.run("k", two.signal, start);
    one.abort(new Error("left"));
    await expect(first).rejects.toThrow("left");
    expect(ended).toBe(false);
    two.abort(new Error("left too"));
    await expect(second).rejects.toThrow("left too");
    expect(ended).toBe(true);
    expect(await works.run("k", signal, async () => "next")).toBe("next");
  });
});

test("a semaphore lets so many in, in order, and forgets who leaves the line", async () => {
  const semaphore = new Semaphore(1);
  const gate = deferred();
  const order: string[] = [];
  const first = semaphore.run(signal, () => gate.promise);
  const stop = new AbortController();
  const leaver = semaphore.run(stop.signal, async () => void order.push("leaver"));
  const second = semaphore.run(signal, async () => void order.push("second"));
  stop.abort(new Error("no more"));
  await expect(leaver).rejects.toThrow("no more");
  gate.resolve();
  await Promise.all([first, second]);
  expect(order).toEqual(["second"]);
});

test("a rollback undoes the last step first, and goes on behind a step that fails", async () => {
  const order: string[] = [];
  {
    await using rollback = new Rollback(quietLog);
    rollback.add("one", async () => void order.push("one"));
    rollback.add("two", () => Promise.reject(new Error("stuck")));
    rollback.add("three", async () => void order.push("three"));
  }
  expect(order).toEqual(["three", "one"]);
});

describe("a run directory", () => {
  test("that is too long for a unix socket is refused with the way out", () => {
    expect(() => runDirOf(`/${"x".repeat(80)}`, "docker", "h")).toThrow(
      "too long for a unix socket",
    );
  });

  test("gets its token anew, never through a link that the sandbox made", async () => {
    const root = join(directory, "root");
    const dir = runDirOf(root, "process", "h");
    const token = newToken();
    const uid = process.getuid?.() ?? 0;
    await makeRunDir(dir, { uid, token });
    expect((await stat(join(dir.run, "token"))).mode & 0o777).toBe(0o600);
    const victim = join(directory, "victim");
    await writeFile(victim, "mine");
    await rm(join(dir.run, "token"));
    await symlink(victim, join(dir.run, "token"));
    await mkdir(join(dir.run, "harnessd.sock"));
    await symlink(directory, join(dir.run, "link"));
    await renewRunDir(dir, { uid, token });
    expect(await readFile(victim, "utf8")).toBe("mine");
    expect(await readFile(join(dir.run, "token"), "utf8")).toBe(token);
    await writeFile(dir.record, "{ half a rec");
    expect(await listRecords(root)).toEqual([]);
    await removeRunDir(dir);
    expect(await readFile(victim, "utf8")).toBe("mine");
    expect(await readdir(root)).toEqual([]);
  });
});

test("specs that mean the same have one hash, and unknown tiers are the standard one", () => {
  expect(hashOf({ tier: 0, egress: "open" })).toBe(
    hashOf({ tier: 99, provider: "docker", resources: { cpus: 1 } }),
  );
  expect(hashOf({ tier: 1 })).not.toBe(hashOf({}));
  // A run's environment goes to its harness: who ensures its sandbox with the same object finds it.
  expect(hashOf({ env: { A: "2" } })).toBe(hashOf({}));
});

describe.skipIf(process.platform !== "linux")("programs and images", () => {
  test("harnessd is compiled once for many callers, and found again", async () => {
    const cacheDir = join(directory, "cache");
    const { hash } = await harnessdSource();
    const built = await Promise.all(
      [1, 2, 3].map(() => ensureHarnessdBinary({ cacheDir, signal })),
    );
    expect(new Set(built)).toEqual(new Set([join(cacheDir, "harnessd", hash, "harnessd")]));
    const { ino } = await stat(built[0] ?? "");
    expect((await stat(await ensureHarnessdBinary({ cacheDir, signal }))).ino).toBe(ino);
    expect(await readdir(join(cacheDir, "harnessd"))).toEqual([hash]);
  }, 60_000);

  test("a caller that aborts does not stop the build that others wait for", async () => {
    const cacheDir = join(directory, "cache-abort");
    const stop = new AbortController();
    const leaver = ensureHarnessdBinary({ cacheDir, signal: stop.signal });
    const stayer = ensureHarnessdBinary({ cacheDir, signal });
    leaver.catch(() => undefined);
    stop.abort(new Error("left"));
    await expect(leaver).rejects.toThrow("left");
    expect((await stat(await stayer)).mode & 0o111).toBe(0o111);
  }, 60_000);

  test("an image's tag depends on its content alone, and claude's lies on harnessd's", async () => {
    const harnessd = await recipe("harnessd", { cacheDir: CACHE_DIR, signal });
    const claude = await recipe("claude-code", { cacheDir: CACHE_DIR, signal });
    expect(harnessd.tag).toMatch(/^deco-link\/harnessd:[0-9a-f]{12}$/);
    expect((await recipe("harnessd", { cacheDir: CACHE_DIR, signal })).tag).toBe(harnessd.tag);
    expect(claude.tag).toMatch(/^deco-link\/claude-code:[0-9a-f]{12}$/);
    expect(claude.below?.tag).toBe(harnessd.tag);
  });

  test("busybox is static and has a shell", async () => {
    const path = await findBusybox(CACHE_DIR, signal);
    const result = await runCommand([path, "sh", "-c", "echo $((1 + 1))"], { signal, env: {} });
    expect(result).toEqual({ exitCode: 0, stdout: "2\n", stderr: "" });
  });
});

test("what a plain user lacks for a confined process is named exactly", async () => {
  const missing = await missingWithoutRoot({ uid: 4_000_000, name: "nobody-of-that-name" });
  expect(missing).toContain("a range of uids for nobody-of-that-name in /etc/subuid");
  expect(missing.at(-1)).toContain("memory and pids");
});
