import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { DecoError } from "../protocol/errors.ts";

/** Largest private file that is read, in bytes: all of ours are small. */
const MAX_BYTES = 1024 * 1024;

/**
 * Reads a JSON file that only its owner may read.
 *
 * @returns undefined when there is none.
 * @throws DecoError `storage_failed` when others may read it, it belongs to somebody else, or is no JSON.
 */
export async function readPrivateJson(path: string): Promise<unknown> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw new DecoError("storage_failed", `can't read ${path}: ${error.code}`, { cause: error });
    },
  );
  if (file === undefined) return undefined;
  try {
    await checkOwner(file, path);
    return parse(await file.readFile("utf8"), path);
  } finally {
    await file.close();
  }
}

/** Writes a JSON file of mode 0600 so that a crash leaves the old one or the new one, never half. */
export async function writePrivateJson(path: string, value: unknown): Promise<void> {
  const draft = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    const file = await open(draft, "wx", 0o600);
    try {
      await file.writeFile(`${JSON.stringify(value, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, path);
    await syncDir(dirname(path));
  } catch (cause) {
    await rm(draft, { force: true });
    throw new DecoError("storage_failed", `can't write ${path}: ${String(cause)}`, { cause });
  }
}

async function checkOwner(file: FileHandle, path: string): Promise<void> {
  const { uid, mode, size } = await file.stat();
  const own = process.getuid?.();
  if (own !== undefined && uid !== own) {
    throw new DecoError("storage_failed", `${path} belongs to uid ${uid}, not to ${own}`, {
      fix: `Give it back with: sudo chown ${own} ${path}`,
    });
  }
  if (own !== undefined && (mode & 0o077) !== 0) {
    throw new DecoError("storage_failed", `${path} may be read by others`, {
      fix: `Run: chmod 600 ${path}`,
    });
  }
  if (size > MAX_BYTES) throw new DecoError("storage_failed", `${path} has ${size} bytes`);
}

function parse(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DecoError("storage_failed", `${path} is not JSON`, {
      cause,
      fix: `Repair or delete ${path}.`,
    });
  }
}

/** The rename itself must survive a power cut, too. */
async function syncDir(dir: string): Promise<void> {
  const handle = await open(dir, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
