import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** An image of ours with this machine's git in it, for as long as it is not disposed. */
export async function gitImage(base: string): Promise<{ tag: string } & AsyncDisposable> {
  const context = await mkdtemp(join(tmpdir(), "deco-git-"));
  const tag = `deco-test/git:${process.pid}`;
  try {
    const programs = ["/usr/bin/git", "/usr/lib/git-core/git-remote-http"];
    for (const program of programs) {
      const { stdout } = await run("ldd", [program]);
      const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? "");
      for (const path of [program, ...libraries]) {
        const to = join(context, "root", path);
        await mkdir(dirname(to), { recursive: true });
        await cp(await realpath(path), to);
      }
    }
    await writeFile(join(context, "Dockerfile"), `FROM ${base}\nCOPY root/ /\n`);
    await run("docker", ["build", "-q", "-t", tag, context]);
  } finally {
    await rm(context, { recursive: true });
  }
  return {
    tag,
    async [Symbol.asyncDispose]() {
      await run("docker", ["rmi", "-f", tag]);
    },
  };
}
