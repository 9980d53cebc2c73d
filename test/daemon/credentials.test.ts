import { expect, test } from "bun:test";
import { stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  credentialsStamp,
  readSession,
  readUserToken,
  writeSession,
} from "../../src/daemon/credentials.ts";
import { testHome } from "../support/control-home.ts";

const HUB = "http://127.0.0.1:4000/some/path";

test("the user token: environment, then its file, then what `deco login` stored for this hub", async () => {
  await using home = await testHome();
  const { sessionFile } = home.paths;
  const tokenFile = join(home.dir, "token");
  expect(await readUserToken({ sessionFile }, HUB)).toBeUndefined();
  await writeSession(sessionFile, HUB, { token: "session" });
  await writeSession(sessionFile, "https://other.example", { token: "other" });
  expect((await stat(sessionFile)).mode & 0o777).toBe(0o600);
  expect(await readUserToken({ sessionFile }, HUB)).toBe("session");
  expect(await readSession(sessionFile, "https://other.example/")).toEqual({ token: "other" });
  await writeFile(tokenFile, "from-file\n");
  expect(await readUserToken({ sessionFile, tokenFile }, HUB)).toBe("from-file");
  expect(await readUserToken({ sessionFile, tokenFile, token: "env" }, HUB)).toBe("env");
});

test.each([
  ["missing", undefined],
  ["empty", " \n"],
])("a DECO_TOKEN_FILE that is %s is named, with exit code 4", async (_what, text) => {
  await using home = await testHome();
  const tokenFile = join(home.dir, "token");
  if (text !== undefined) await writeFile(tokenFile, text);
  const sources = { sessionFile: home.paths.sessionFile, tokenFile };
  const read = readUserToken(sources, HUB);
  await expect(read).rejects.toMatchObject({ code: "not_enrolled", info: { exit: 4 } });
  await expect(read).rejects.toThrow(tokenFile);
});

test("the stamp changes with the files, and only with them", async () => {
  await using home = await testHome();
  const sources = { sessionFile: home.paths.sessionFile };
  const before = await credentialsStamp(sources);
  expect(await credentialsStamp(sources)).toBe(before);
  await writeSession(sources.sessionFile, HUB, { token: "t" });
  expect(await credentialsStamp(sources)).not.toBe(before);
});
