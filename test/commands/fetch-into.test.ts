import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fetchInto } from "../../src/commands/fetch-into.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import { member, streamOf, tarOf } from "../support/tar-of.ts";

const place = mkdtempSync(join(tmpdir(), "deco-fetch-"));
afterAll(() => rmSync(place, { recursive: true }));

let folders = 0;

async function fetched(members: readonly Uint8Array[], globs: string[], before: string[] = []) {
  const into = join(place, String(folders++));
  mkdirSync(into);
  for (const path of before) mkdirSync(join(into, path), { mode: 0o700 });
  const notes: string[] = [];
  const note = (line: string) => void notes.push(line);
  const code = await fetchInto(into, streamOf(tarOf(members)), { globs, note }).then(
    () => "fetched",
    (thrown: unknown) => DecoError.from(thrown).code,
  );
  const files = readdirSync(into, { recursive: true }).map(String).toSorted();
  return { into, code, files, notes };
}

const file = (path: string, mode = 0o644) => member(path, { text: "x", mode });

test("a hub that sends what nobody asked for writes nothing", async () => {
  const sent = [file("out/a"), file(".ssh/authorized_keys"), file("b.txt"), file("out2")];
  const { files, notes } = await fetched(sent, ["out/*"]);
  expect(files).toEqual(["out", "out/a"]);
  expect(notes).toContain("not fetched: b.txt (not asked for)");
});

test("wildcards bring nothing hidden, patterns that name it do", async () => {
  const sent = [file(".envrc"), file(".vscode/tasks.json"), file("a"), file("sub/.npmrc")];
  const { files, notes } = await fetched(sent, ["**"]);
  expect(files).toEqual(["a"]);
  expect(notes).toHaveLength(3);
  expect((await fetched(sent, [".envrc", "sub"])).files).toEqual([".envrc", "sub", "sub/.npmrc"]);
});

test.each([
  ".git/config",
  "a/.GIT/hooks/x",
  "./.git",
  ".g\u200Cit/config",
  "git~1/config",
  ".git./a",
])("git's own are left here: %s", async (path) => {
  const { files, notes } = await fetched([file(path), file("a.txt")], ["**", ".*", "**/.*"]);
  expect(files).toEqual(["a.txt"]);
  expect(notes.join("\n")).toContain("git would run");
});

test("names that a terminal would act on are neither written nor printed", async () => {
  const { files, notes } = await fetched([file("a\u001B]0;x\u0007"), file("b\\c")], ["*"]);
  expect(files).toEqual([]);
  expect(notes).toHaveLength(2);
  // oxlint-disable-next-line no-control-regex -- they are what must not be there
  expect(notes.join("")).not.toMatch(/[\u0000-\u001F\u007F-\u009F]/);
});

test("files are writable for nobody whom the umask excludes, and folders keep their modes", async () => {
  const sent = [member("mine", { kind: "directory", mode: 0o777 }), file("mine/run.sh", 0o777)];
  const { into } = await fetched(sent, ["mine"], ["mine"]);
  expect(statSync(join(into, "mine")).mode & 0o777).toBe(0o700);
  expect(statSync(join(into, "mine/run.sh")).mode & 0o777).toBe(0o777 & ~process.umask());
});

test.each(["../out", "/tmp/deco-fetch-out", "a/../../out"])(
  "%s leaves the folder",
  async (path) => {
    const { into, files } = await fetched([file(path)], ["**", "/**", "../**"]);
    expect(files).toEqual([]);
    expect(existsSync(join(into, path))).toBe(false);
  },
);

test("links and devices are none of it, and many of them are told once", async () => {
  const links = Array.from({ length: 100 }, (_, i) =>
    member(`l${i}`, { kind: "symlink", target: "/etc" }),
  );
  const { files, notes } = await fetched([...links, file("l0/passwd")], ["**"]);
  expect(files).toEqual(["l0", "l0/passwd"]);
  expect(notes).toHaveLength(21);
});

const into = (name: string) => {
  mkdirSync(join(place, name));
  return join(place, name);
};

describe("limits of a fetch", () => {
  const limits = { skipped: 3, skippedBytes: 100, totalMs: 60_000, stallMs: 60_000 };
  const fetching = (name: string, body: AsyncIterable<Uint8Array>, more: Partial<typeof limits>) =>
    fetchInto(into(name), body, {
      globs: ["wanted"],
      note: () => undefined,
      limits: { ...limits, ...more },
    });

  test("more members, or more bytes, than are left out at most end it, folders counted", async () => {
    const others = ["a", "b", "c"].map((path) => file(path));
    const folder = member("f", { kind: "directory" });
    const within = streamOf(tarOf([...others, file("wanted")]));
    expect(await fetching("within", within, {})).toMatchObject({ files: 1 });
    const many = fetching("many", streamOf(tarOf([...others, folder, file("wanted")])), {});
    await expect(many).rejects.toMatchObject({ code: "body_too_large" });
    const long = member("long", { text: "x".repeat(101) });
    const big = fetching("big", streamOf(tarOf([long, file("wanted")])), {});
    await expect(big).rejects.toMatchObject({ code: "body_too_large" });
  });

  test("a sender that stalls, or never comes to an end, is left with what was written", async () => {
    const start = tarOf([file("wanted"), file("a")]).subarray(0, 1024);
    const readers = { gone: 0 };
    const drip = async function* (everyMs: number) {
      try {
        yield start;
        for (;;) {
          await Bun.sleep(everyMs);
          yield new Uint8Array(0);
        }
      } finally {
        readers.gone += 1;
      }
    };
    const silent = fetching("silent", drip(1_000), { stallMs: 50 });
    await expect(silent).rejects.toMatchObject({
      code: "timeout",
      message: expect.stringContaining("nothing for 50 ms"),
    });
    const endless = fetching("endless", drip(5), { totalMs: 100 });
    await expect(endless).rejects.toMatchObject({
      code: "timeout",
      message: expect.stringContaining("not done in 100 ms"),
    });
    expect(readdirSync(join(place, "endless"))).toEqual(["wanted"]);
    while (readers.gone < 2) await Bun.sleep(10);
  });
});
