import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Pack, pack } from "tar-stream";
import { completed, type RootfsEntry } from "./rootfs.ts";

/**
 * A build context as a tar stream: the Dockerfile, and everything of the image under `rootfs/`.
 * Nothing is written to disk, and nothing is read faster than the engine takes it.
 */
export function buildContext(dockerfile: string, entries: readonly RootfsEntry[]): Readable {
  const tar = pack();
  fill(tar, dockerfile, entries).catch((thrown: unknown) => {
    tar.destroy(thrown instanceof Error ? thrown : new Error(String(thrown)));
  });
  return Readable.from(tar);
}

async function fill(tar: Pack, dockerfile: string, entries: readonly RootfsEntry[]) {
  tar.entry({ name: "Dockerfile", mode: 0o644 }, dockerfile);
  for (const entry of completed(entries)) await add(tar, entry);
  tar.finalize();
}

async function add(tar: Pack, entry: RootfsEntry): Promise<void> {
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
      await pipeline(createReadStream(entry.from), tar.entry({ ...head, size, mode: entry.mode }));
      break;
    }
  }
}
