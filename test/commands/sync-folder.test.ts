import { afterAll, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { syncFolder } from "../../src/commands/sync-folder.ts";
import { TarReader } from "../../src/protocol/tar-read.ts";

const place = mkdtempSync(join(tmpdir(), "deco-sync-"));
afterAll(() => rmSync(place, { recursive: true }));

function folder(name: string, files: Readonly<Record<string, string>>): string {
  const dir = join(place, name);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(dir, path, ".."), { recursive: true });
    writeFileSync(join(dir, path), text);
  }
  return dir;
}

const git = (dir: string, ...argv: string[]) => execFileSync("git", ["-C", dir, ...argv]);

async function sent(dir: string): Promise<{ paths: string[]; byGit: boolean; notes: string[] }> {
  const notes: string[] = [];
  const { signal } = new AbortController();
  const { tar, byGit } = await syncFolder(dir, { note: (line) => void notes.push(line), signal });
  const paths: string[] = [];
  const reader = new TarReader({ entry: ({ path }) => void paths.push(path) });
  for await (const chunk of tar) reader.push(chunk);
  reader.end();
  return { paths: paths.map((path) => path.replace(/\/$/, "")).toSorted(), byGit, notes };
}

test("outside of git all goes but .git, wherever it lies", async () => {
  const files = { "a.txt": "a", "sub/.git/config": "token", ".env": "x", "sub/b": "b" };
  const { paths, byGit } = await sent(folder("plain", files));
  expect(paths.filter((path) => path !== "")).toEqual([".env", "a.txt", "sub", "sub/b"]);
  expect(byGit).toBe(false);
});

test("in a work tree of git what git ignores stays, what is new goes", async () => {
  const dir = folder("tree", {
    ".gitignore": ".env\nnode_modules\n",
    ".env": "SECRET=1",
    "node_modules/x/index.js": "",
    "src/new ü.ts": "",
    "src/tracked.ts": "",
  });
  symlinkSync("tracked.ts", join(dir, "src/link.ts"));
  git(dir, "init", "-q");
  git(dir, "add", "src/tracked.ts");
  const { paths, byGit } = await sent(dir);
  expect(paths.filter((path) => path !== "")).toEqual([
    ".gitignore",
    "src",
    "src/link.ts",
    "src/new ü.ts",
    "src/tracked.ts",
  ]);
  expect(byGit).toBe(true);
  const library = folder("library", { inside: "" });
  git(library, "init", "-q");
  git(library, "add", "inside");
  const who = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
  git(library, ...who, "commit", "-q", "-m", "x");
  git(dir, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library, "lib");
  const withModule = await sent(dir);
  expect(withModule.paths).not.toContain("lib/inside");
  expect(withModule.notes).toEqual(["not sent: lib (a submodule)"]);
  // A part of the tree is a work tree as well.
  expect((await sent(join(dir, "src"))).paths).toContain("tracked.ts");
});

test("git runs no program that the folder's own settings name: a guest may have written them", async () => {
  const dir = folder("trap", { a: "" });
  git(dir, "init", "-q");
  git(dir, "add", "a");
  const canary = join(place, "ran");
  writeFileSync(join(place, "monitor"), `#!/bin/sh\ntouch "${canary}"\n`, { mode: 0o755 });
  git(dir, "config", "core.fsmonitor", join(place, "monitor"));
  git(dir, "status");
  // The trap works for who does not think of it.
  expect(existsSync(canary)).toBe(true);
  rmSync(canary);
  expect((await sent(dir)).paths).toContain("a");
  expect(existsSync(canary)).toBe(false);
});
