import { heapStats } from "bun:jsc";
import { expect, test } from "bun:test";
import { type TarEntry, TarReader } from "../../src/protocol/tar-read.ts";
import { TAR_END_BYTES } from "../../src/protocol/tar-write.ts";
import { repack } from "../../src/sandbox/workspace/repack.ts";
import { member, streamOf, tarOf } from "../support/tar-of.ts";

const keep = {
  name: ({ path }: TarEntry) => path.replace(/\/$/, ""),
  target: (path: string) => path,
};

async function pathsOf(tar: ReadableStream<Uint8Array>): Promise<string[]> {
  const paths: string[] = [];
  const reader = new TarReader({ entry: ({ path }) => void paths.push(path) });
  for await (const bytes of tar) reader.push(bytes);
  reader.end();
  return paths;
}

test("a hard link goes with its first name, renamed or not, and is left out without it", async () => {
  const tar = tarOf([
    member("a", { text: "1" }),
    member("b", { text: "2" }),
    member("to-a", { kind: "hardlink", target: "a" }),
    member("to-b", { kind: "hardlink", target: "b" }),
    member("to-none", { kind: "hardlink", target: "c" }),
    member("again", { kind: "hardlink", target: "to-a" }),
  ]);
  expect(await pathsOf(repack(streamOf(tar), keep))).toEqual(["a", "b", "to-a", "to-b", "again"]);
  const moved = repack(streamOf(tar), {
    name: ({ path }) => (path === "b" ? undefined : `in/${path}`),
    target: (path) => `in/${path}`,
  });
  expect(await pathsOf(moved)).toEqual(["in/a", "in/to-a", "in/again"]);
});

test("of 20,000 names of 4,000 bytes almost nothing is kept", async () => {
  const MEMBERS = 20_000;
  let made = 0;
  const source = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        made += 1;
        if (made <= MEMBERS) {
          // Latin letters alone: a byte each in memory.
          controller.enqueue(member(`${"deep/".repeat(798)}${made}`, {}));
        } else if (made === MEMBERS + 1) controller.enqueue(new Uint8Array(TAR_END_BYTES));
        else controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  const before = heapAfterGc();
  const reader = repack(source, keep).getReader();
  // Read only as it is asked for: all but the end have gone through.
  for (let read = 0; read < MEMBERS; read += 1) await reader.read();
  const keptMib = (heapAfterGc() - before) / 1024 / 1024;
  await reader.cancel();
  // Their names are 76 MiB.
  expect(keptMib).toBeLessThan(16);
}, 60_000);

function heapAfterGc(): number {
  Bun.gc(true);
  return heapStats().heapSize + heapStats().extraMemorySize;
}

test("more members than it notes are a typed error, and its source is let go", async () => {
  const members = ["a", "b", "c", "d"].map((path) => member(path, {}));
  let cancelled: unknown;
  const source = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(tarOf(members)),
    cancel: (reason) => {
      cancelled = reason;
    },
  });
  const code = { code: "body_too_large" };
  await expect(pathsOf(repack(source, { ...keep, most: 3 }))).rejects.toMatchObject(code);
  expect(cancelled).toMatchObject(code);
  const [folder, ...files] = [member("f", { kind: "directory" }), ...members.slice(0, 3)];
  const within = repack(streamOf(tarOf([folder, ...files])), { ...keep, most: 3 });
  expect(await pathsOf(within)).toHaveLength(4);
});
