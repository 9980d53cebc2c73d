import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Pack, pack } from "tar-stream";
import { completed, type RootfsEntry } from "./rootfs.ts";

/**
 * A build context as a tar stream: the Dockerfile, and everything of the image under `rootfs/`.
 * Nothing is written to disk, and nothing is read faster than the engine takes it.
 *
 * @param onBytes told of the bytes of files that went in, and of all there are
 */
export async function buildContext(
  dockerfile: string,
  entries: readonly RootfsEntry[],
  onBytes?: (sent: number, total: number) => void,
): Promise<Readable> {
  const all = completed(entries);
  let total = 0;
  for (const entry of all) if (entry.type === "file") total += (await stat(entry.from)).size;
  let sent = 0;
  const count = (bytes: number) => onBytes?.((sent += bytes), total);
  const tar = pack();
  fill(tar, dockerfile, all, count).catch((thrown: unknown) => {
    tar.destroy(thrown instanceof Error ? thrown : new Error(String(thrown)));
  });
  return Readable.from(tar);
}

type Count = (bytes: number) => void;

async function fill(tar: Pack, dockerfile: string, entries: readonly RootfsEntry[], count: Count) {
  tar.entry({ name: "Dockerfile", mode: 0o644, mtime: new Date(0) }, dockerfile);
  for (const entry of entries) await add(tar, entry, count);
  tar.finalize();
}

async function add(tar: Pack, entry: RootfsEntry, count: Count): Promise<void> {
  // One time for all: the same content gives the same layer.
  const head = { name: `rootfs${entry.path}`, mtime: new Date(0), uid: 0, gid: 0 };
  switch (entry.type) {
    case "directory":
      tar.entry({ ...head, type: "directory", mode: entry.mode });
      break;
    case "link":
      tar.entry({ ...head, type: "symlink", linkname: entry.target });
      break;
    case "text":
      tar.entry({ ...head, mode: entry.mode }, entry.text);
      break;
    case "file": {
      const { size } = await stat(entry.from);
      const file = createReadStream(entry.from, { highWaterMark: 1024 * 1024 });
      file.on("data", (chunk) => count(chunk.length));
      await pipeline(file, tar.entry({ ...head, size, mode: entry.mode }));
      break;
    }
  }
}
