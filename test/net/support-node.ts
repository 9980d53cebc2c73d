import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const ROOT = join(import.meta.dir, "../..");
const run = promisify(execFile);

/** Bundles a program of ours for Node inside the checkout, so that node_modules resolves. */
export async function bundleForNode(
  entry: string,
): Promise<{ readonly path: string } & AsyncDisposable> {
  const cache = join(ROOT, ".cache");
  await mkdir(cache, { recursive: true });
  const dir = await mkdtemp(join(cache, "net-"));
  const built = await Bun.build({
    entrypoints: [join(ROOT, entry)],
    target: "node",
    packages: "external",
    naming: "main.mjs",
    outdir: dir,
  });
  if (!built.success) throw new Error(built.logs.map((log) => log.message).join("\n"));
  return {
    path: join(dir, "main.mjs"),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}

/** Runs a bundle under Node; gives what it printed, throws when it failed. */
export async function runNode(path: string, args: readonly string[] = []): Promise<string> {
  const { stdout } = await run("node", [path, ...args], { timeout: 110_000 }).catch(
    (error: unknown) => {
      if (error instanceof Error && "stdout" in error) throw new Error(String(error.stdout));
      throw error;
    },
  );
  return stdout;
}
