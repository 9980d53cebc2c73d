import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { DecoError } from "../../protocol/errors.ts";
import { runCommand } from "../run-command.ts";
import { readElf } from "./elf.ts";

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

async function isStaticElf(path: string): Promise<boolean> {
  const elf = await readElf(path);
  return elf !== undefined && elf.interpreter === undefined;
}
