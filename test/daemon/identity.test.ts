import { expect, test } from "bun:test";
import { chmod, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { openIdentity, wipeIdentity } from "../../src/daemon/identity.ts";
import { testHome } from "../support/control-home.ts";

test("a home gets one random identity, keeps it, and only its owner can read it", async () => {
  await using home = await testHome();
  await using other = await testHome();
  const first = await openIdentity(home.paths.machineFile);
  expect(await openIdentity(home.paths.machineFile)).toEqual(first);
  expect((await openIdentity(other.paths.machineFile)).machineId).not.toBe(first.machineId);
  expect((await stat(home.paths.machineFile)).mode & 0o777).toBe(0o600);
  expect(first.publicJwk).toEqual({ kty: "OKP", crv: "Ed25519", x: expect.any(String) });
  expect(await readdir(home.paths.state)).toEqual(["machine.json"]);
});

test("a key file that others may read is refused with the command that closes it", async () => {
  await using home = await testHome();
  await openIdentity(home.paths.machineFile);
  await chmod(home.paths.machineFile, 0o644);
  const refused = openIdentity(home.paths.machineFile);
  await expect(refused).rejects.toMatchObject({ code: "storage_failed" });
  await expect(refused).rejects.toMatchObject({ fix: expect.stringContaining("chmod 600") });
});

test.each(["", "{", "{}", '{"machineId":"m"}'])(
  "a damaged identity %p is never replaced silently",
  async (text) => {
    await using home = await testHome();
    await writeFile(home.paths.machineFile, text, { mode: 0o600 });
    await expect(openIdentity(home.paths.machineFile)).rejects.toMatchObject({
      code: "storage_failed",
    });
    expect(await readFile(home.paths.machineFile, "utf8")).toBe(text);
  },
);

test("after a wipe the home enrols as a new machine", async () => {
  await using home = await testHome();
  const first = await openIdentity(home.paths.machineFile);
  await wipeIdentity(home.paths.machineFile);
  await wipeIdentity(home.paths.machineFile);
  expect((await openIdentity(home.paths.machineFile)).machineId).not.toBe(first.machineId);
});
