import { afterEach, beforeEach, expect, test } from "bun:test";
import { access, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openHubKeys } from "../../src/hub/keys.ts";
import { runDeco } from "../support/run-deco.ts";

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "deco-hub-cli-"));
});
afterEach(() => rm(home, { recursive: true, force: true }));

test("hub token for a folder without a hub's keys is refused and makes nothing", async () => {
  for (const more of [[], ["--login"]]) {
    const data = join(home, "typo");
    const args = ["hub", "token", "--json", "--data", data, ...more];
    const { code, lines } = await runDeco(args, { home });
    expect(code).toBe(2);
    const problem: unknown = JSON.parse(lines[0] ?? "");
    expect(problem).toMatchObject({ code: "usage", fix: expect.stringContaining("--data") });
    expect(await access(data).catch(() => "absent")).toBe("absent");
  }
});

test("hub token for a hub's folder prints a token", async () => {
  openHubKeys(join(home, "hub"));
  const { code, stdout } = await runDeco(["hub", "token", "--data", join(home, "hub")], { home });
  expect({ code, stdout }).toEqual({
    code: 0,
    stdout: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+\n$/),
  });
});

test("a place where a hub can't keep its data is named, with --data in the fix", async () => {
  const file = join(home, "file");
  await writeFile(file, "");
  for (const data of ["/proc/x", file, join(file, "below"), "/proc/self"]) {
    const { code, lines } = await runDeco(["hub", "--json", "--port", "0", "--data", data], {
      home,
      timeoutMs: 15_000,
    });
    expect(code).toBe(1);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({
      code: "storage_failed",
      detail: expect.stringContaining(data),
      fix: expect.stringContaining("--data"),
    });
  }
}, 60_000);
