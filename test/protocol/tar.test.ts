import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DecoError } from "../../src/protocol/errors.ts";
import { type TarEntry, TarReader } from "../../src/protocol/tar-read.ts";
import { type TarLimits, tarRules } from "../../src/protocol/tar-rules.ts";
import { tarHeader } from "../../src/protocol/tar-write.ts";
import { member, tarOf } from "../support/tar-of.ts";

interface Read extends TarEntry {
  readonly text: string;
}

/** Pushed in pieces of so many bytes. */
function readTar(tar: Uint8Array, piece = tar.length): Read[] {
  const found: { entry: TarEntry; bytes: Uint8Array[] }[] = [];
  const reader = new TarReader({
    entry: (entry) => void found.push({ entry, bytes: [] }),
    data: (bytes) => void found.at(-1)?.bytes.push(bytes.slice()),
  });
  for (let at = 0; at < tar.length; at += piece) reader.push(tar.subarray(at, at + piece));
  reader.end();
  return found.map(({ entry, bytes }) => ({ ...entry, text: Buffer.concat(bytes).toString() }));
}

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (thrown) {
    return DecoError.from(thrown).code;
  }
  return "taken";
}

const LONG = `${"deep/".repeat(40)}ünicode-${"x".repeat(90)}`;

describe("tar", () => {
  test.each([1, 7, 511, 512, 513, 100_000])(
    "what we write is read again, in pieces of %d bytes",
    (piece) => {
      const members = [
        member("dir", { kind: "directory", mode: 0o755 }),
        member("dir/a", { text: "hello", mode: 0o644 }),
        member("empty", {}),
        member(LONG, { text: "y".repeat(1025), mode: 0o700 }),
        member("link", { kind: "symlink", target: LONG }),
      ];
      const read = readTar(tarOf(members), piece);
      expect(read.map(({ path }) => path)).toEqual(["dir/", "dir/a", "empty", LONG, "link"]);
      expect(read.map(({ text }) => text)).toEqual(["", "hello", "", "y".repeat(1025), ""]);
      expect(read[3]).toMatchObject({ mode: 0o700, mtime: 1_700_000_000, size: 1025 });
      expect(read[4]).toMatchObject({ kind: "symlink", target: LONG });
    },
  );

  test.each(["gnu", "pax", "ustar", "v7"])("what tar --format=%s writes is read", (format) => {
    const dir = mkdtempSync(join(tmpdir(), "deco-tar-"));
    try {
      const long = format === "v7" ? "short" : "n".repeat(90);
      const script = `mkdir -p ${long}/${long} && printf hi >${long}/${long}/f && ln -s f ${long}/${long}/l`;
      spawnSync("sh", ["-c", script], { cwd: dir });
      const { stdout } = spawnSync("tar", [`--format=${format}`, "-cf", "-", "."], { cwd: dir });
      const read = readTar(new Uint8Array(stdout), 1000);
      const rules = tarRules();
      const paths = read.map((entry) => rules.check(entry));
      expect(paths).toContain(`${long}/${long}/f`);
      expect(read.find(({ kind }) => kind === "file")?.text).toBe("hi");
      expect(read.find(({ kind }) => kind === "symlink")?.target).toBe("f");
      expect(rules.totals()).toEqual({ files: 2, bytes: 2 });
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test.each([
    ["cut off in a file", tarOf([member("a", { text: "x".repeat(2000) })]).subarray(0, 1024)],
    ["without its end", tarOf([member("a", {})]).subarray(0, 512)],
    ["empty", new Uint8Array(0)],
    ["of text", new TextEncoder().encode("no tar at all ".repeat(100))],
    ["with a flipped bit", tarOf([member("a", {})]).map((b, i) => (i === 3 ? b ^ 1 : b))],
    ["with a huge long name", tarOf([member("a", { type: "L", size: 1_000_000 })])],
    ["with a broken pax header", tarOf([member("a", { type: "x", text: "99 path=a\n" })])],
    ["with a sparse file", tarOf([member("a", { type: "x", text: "23 GNU.sparse.major=1\n" })])],
  ])("a tar %s is refused", (_what, tar) => {
    expect(codeOf(() => readTar(tar))).toBe("archive_invalid");
  });
});

const through = (members: ReturnType<typeof member>[], limits?: TarLimits) =>
  codeOf(() => {
    const rules = tarRules(limits);
    for (const entry of readTar(tarOf(members))) rules.check(entry);
  });
const link = (path: string, target: string) => member(path, { kind: "symlink", target });

describe("rules", () => {
  test.each([
    ["an absolute path", [member("/etc/passwd", {})]],
    ["a path with ..", [member("a/../../b", {})]],
    ["a lone ..", [member("..", { kind: "directory" })]],
    ["a file without a name", [member("./", {})]],
    ["a link to an absolute path", [link("l", "/etc")]],
    ["a link out", [link("a/l", "../../x")]],
    ["a link with .. behind a name", [link("a/l", "b/../c")]],
    ["an empty link", [link("l", "")]],
    ["a file through a link", [link("l", "d"), member("l/x", {})]],
    ["a file below a file", [member("f", {}), member("f/x", {})]],
    ["a file twice", [member("f", {}), member("./f", {})]],
    ["a link in a file's place", [member("f", {}), link("f", "x")]],
    ["a hard link out", [member("h", { kind: "hardlink", target: "/etc/passwd" })]],
    ["a hard link to what is not in it", [member("h", { kind: "hardlink", target: "other" })]],
    ["a hard link to a link", [link("l", "x"), member("h", { kind: "hardlink", target: "l" })]],
    ["a device", [member("d", { type: "3" })]],
    ["a block device", [member("d", { type: "4" })]],
    ["a fifo", [member("p", { type: "6" })]],
    ["a name of 300 bytes", [member("n".repeat(300), {})]],
  ])("%s is refused", (_what, members) => {
    expect(through(members)).toBe("archive_invalid");
  });

  test("folders again, links that stay and hard links inside are taken", () => {
    const members = [
      member("./", { kind: "directory" }),
      member("a", { kind: "directory" }),
      member("a/", { kind: "directory" }),
      member("a/f", { text: "x" }),
      link("a/up", "../b"),
      link("a/same", "f"),
      member("h", { kind: "hardlink", target: "./a/f" }),
    ];
    expect(through(members)).toBe("taken");
  });

  test("too many characters of paths are refused: they are kept until the end", () => {
    const limits = { entries: 9, bytes: 9, names: 9 };
    expect(through([member("abc/def", {})], limits)).toBe("taken");
    expect(through([member("abc/def", {}), member("ghi", {})], limits)).toBe("body_too_large");
  });

  test("too many members and too many bytes are told before they are read", () => {
    const many = [member("a", {}), member("b", {}), member("c", {})];
    expect(through(many, { entries: 2, bytes: 10, names: 9 })).toBe("body_too_large");
    expect(
      through([member("a", { text: "12345678901" })], { entries: 2, bytes: 10, names: 9 }),
    ).toBe("body_too_large");
  });
});

test("a time that no header has room for leaves the rest of it as it is", () => {
  const entry: TarEntry = {
    path: "a/b",
    kind: "file",
    size: 0,
    mode: 0o644,
    mtime: Number.MAX_VALUE,
    target: "",
  };
  const [read] = readTar(tarOf([tarHeader(entry)]));
  expect(read).toMatchObject({ path: "a/b", kind: "file", mtime: 0o77777777777 });
});
