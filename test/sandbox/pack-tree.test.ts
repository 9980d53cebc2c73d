import { afterAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type PackOptions, packTree } from "../../src/sandbox/workspace/pack-tree.ts";

const root = await mkdtemp(join(tmpdir(), "deco-pack-"));
afterAll(() => rm(root, { recursive: true }));

const MANY = 2000;
const MIB = 1024 * 1024;
const folder = async (name: string) => {
  await mkdir(join(root, name));
  return join(root, name);
};
const many = await folder("many");
await Promise.all(Array.from({ length: MANY }, (_, i) => writeFile(join(many, `f${i}`), "")));
const big = await folder("big");
await writeFile(join(big, "f"), "");
await truncate(join(big, "f"), 16 * MIB);
const deep = await folder("deep");
await Promise.all(Array.from({ length: MANY }, (_, i) => mkdir(join(deep, `d${i}`))));

/** How often other work had its turn while all of it was read, and the size of what came. */
async function turnsOf(path: string, options: PackOptions = {}) {
  let turns = 0;
  let over = false;
  const count = () => {
    turns += 1;
    if (!over) setImmediate(count);
  };
  setImmediate(count);
  let bytes = 0;
  for await (const piece of packTree(path, options)) bytes += piece.length;
  over = true;
  return { turns, bytes };
}

// Turns of the loop, not time: how long one takes is the machine's.
test("a tree that is packed leaves other work its turn after each file", async () => {
  expect((await turnsOf(many)).turns).toBeGreaterThan(MANY * 0.9);
});

test("and after each piece of a big one, whoever reads", async () => {
  const { turns, bytes } = await turnsOf(big);
  expect(bytes).toBeGreaterThan(16 * MIB);
  expect(turns).toBeGreaterThan(50);
});

test("and while it looks at what nobody chose: names, and folders with nothing in them", async () => {
  const none = { select: (_path: string, kind: string) => kind === "directory" };
  expect((await turnsOf(many, none)).turns).toBeGreaterThan(MANY / 256 - 1);
  expect((await turnsOf(deep, none)).turns).toBeGreaterThan(MANY * 0.9);
});

const open = async () => (await readdir("/proc/self/fd")).length;

test("a reader who leaves in the middle leaves no file open", async () => {
  const before = await open();
  for (let i = 0; i < 20; i += 1) {
    const reader = packTree(big).getReader();
    await reader.read();
    await reader.cancel();
  }
  expect(await open()).toBeLessThan(before + 5);
});
