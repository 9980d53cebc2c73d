import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { readHolder, takeLock } from "../../src/daemon/lock.ts";
import { testHome } from "../support/control-home.ts";

const LOCK = join(import.meta.dir, "../../src/daemon/lock.ts");

test("the second daemon of a home is told who holds it, with exit code 9", async () => {
  await using home = await testHome();
  await using lock = await takeLock(home.paths);
  await lock.publish({ pid: 4711, startedAt: "2026-01-01T00:00:00.000Z", page: "http://p/" });
  const refused = takeLock(home.paths);
  await expect(refused).rejects.toMatchObject({ code: "already_running", info: { exit: 9 } });
  await expect(refused).rejects.toThrow("pid 4711, http://p/");
});

test("two homes do not know of each other", async () => {
  await using one = await testHome();
  await using two = await testHome();
  await using first = await takeLock(one.paths);
  await using second = await takeLock(two.paths);
  expect([first, second]).toHaveLength(2);
});

test("a lock that was given back can be taken, and names nobody", async () => {
  await using home = await testHome();
  {
    await using lock = await takeLock(home.paths);
    await lock.publish({ pid: 1, startedAt: "x" });
    expect((await stat(home.paths.holderFile)).mode & 0o777).toBe(0o600);
  }
  expect(await readHolder(home.paths.holderFile)).toBeUndefined();
  await (await takeLock(home.paths))[Symbol.asyncDispose]();
});

test("kill -9 frees the lock: a left-over file means nothing", async () => {
  await using home = await testHome();
  const program = `
    const { takeLock } = await import(${JSON.stringify(LOCK)});
    const lock = await takeLock(${JSON.stringify(home.paths)});
    await lock.publish({ pid: process.pid, startedAt: "x" });
    console.log("held");
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  await expect(takeLock(home.paths)).rejects.toThrow(`pid ${child.pid}`);
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
  await (await takeLock(home.paths))[Symbol.asyncDispose]();
});
