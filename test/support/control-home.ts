import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DaemonPaths, makePaths, resolvePaths } from "../../src/daemon/paths.ts";

/** A home of its own below the system's temporary folder; removed when disposed. */
export interface TestHome extends AsyncDisposable {
  readonly dir: string;
  readonly paths: DaemonPaths;
}

export async function testHome(): Promise<TestHome> {
  const dir = await mkdtemp(join(tmpdir(), "deco-t-"));
  const paths = resolvePaths({ env: { DECO_HOME: dir } });
  await makePaths(paths);
  return {
    dir,
    paths,
    async [Symbol.asyncDispose]() {
      await rm(dir, { recursive: true, force: true });
      if (!paths.runtime.startsWith(dir)) await rm(paths.runtime, { recursive: true, force: true });
    },
  };
}
