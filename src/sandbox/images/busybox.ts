import { mkdir, mkdtemp, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { DecoError } from "../../protocol/errors.ts";
import { runCommand } from "../run-command.ts";

const HOST_PATHS = ["/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"];

/**
 * A static busybox: the host's, else Debian's package, which needs no root to be unpacked.
 *
 * @throws image_missing with the command that installs one
 */
export async function findBusybox(cacheDir: string, signal: AbortSignal): Promise<string> {
  const cached = join(cacheDir, "busybox");
  for (const path of [...HOST_PATHS, cached]) {
    if (await isStaticElf(path)) return path;
  }
  try {
    return await unpackPackage(cacheDir, cached, signal);
  } catch (thrown) {
    signal.throwIfAborted();
    throw new DecoError("image_missing", "no static busybox on this machine", {
      cause: thrown,
      fix: "Run `sudo apt-get install busybox-static` (or your system's package), then try again.",
    });
  }
}

async function unpackPackage(cacheDir: string, to: string, signal: AbortSignal): Promise<string> {
  await mkdir(cacheDir, { recursive: true });
  const work = await mkdtemp(join(cacheDir, "busybox-"));
  try {
    await succeed(["apt-get", "download", "busybox-static"], work, signal);
    const deb = (await readdir(work)).find((name) => name.endsWith(".deb"));
    if (deb === undefined) throw new Error("apt-get left no package");
    await succeed(["dpkg-deb", "-x", deb, "."], work, signal);
    for (const path of [join(work, "bin", "busybox"), join(work, "usr", "bin", "busybox")]) {
      if (!(await isStaticElf(path))) continue;
      await rename(path, to);
      return to;
    }
    throw new Error("the package holds no static busybox");
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function succeed(argv: [string, ...string[]], cwd: string, signal: AbortSignal) {
  const result = await runCommand(argv, { cwd, signal });
  if (result.exitCode !== 0) throw new Error(`${argv[0]}: ${result.stderr.trim()}`);
}

/** True for an ELF file without an interpreter (program header type 3). 64-bit little endian. */
async function isStaticElf(path: string): Promise<boolean> {
  if (!(await stat(path).catch(() => undefined))?.isFile()) return false;
  const file = await open(path);
  try {
    const head = Buffer.alloc(4096);
    await file.read(head, 0, head.length, 0);
    if (head.readUInt32BE(0) !== 0x7f454c46 || head[4] !== 2) return false;
    const offset = Number(head.readBigUInt64LE(32));
    const size = head.readUInt16LE(54);
    const count = head.readUInt16LE(56);
    for (let i = 0; i < count && offset + i * size + 4 <= head.length; i++) {
      if (head.readUInt32LE(offset + i * size) === 3) return false;
    }
    return true;
  } finally {
    await file.close();
  }
}
