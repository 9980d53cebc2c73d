import { execFile } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import { packTree } from "../../src/sandbox/workspace/pack-tree.ts";
import { against, quantile } from "../result.ts";
import type { Measure } from "./lab.ts";

const RUNS = 5;
const FILES = 10_000;
const FILES_PER_FOLDER = 100;
const TOTAL_BYTES = 200 * 2 ** 20;
const run = promisify(execFile);

/**
 * 10,000 files of 200 MiB from a folder of this machine into a running sandbox's workspace, packed
 * and unpacked, against `docker cp` of the same folder into a sandbox of the same kind. What was
 * written before is on disk before either begins.
 */
export const copyIn: Measure = async ({ engine, ensure, signal }) => {
  const folder = await mkdtemp(join(tmpdir(), "deco-copy-"));
  const ours: number[] = [];
  const rival: number[] = [];
  try {
    makeFiles(folder);
    const inSandbox = async (copy: (handle: string) => Promise<void>) => {
      await ensure(engine, "copy");
      await run("sync");
      const from = performance.now();
      await copy("copy");
      const ms = performance.now() - from;
      await engine.remove("copy", signal);
      return ms;
    };
    for (let i = 0; i < RUNS; i++) {
      ours.push(await inSandbox((handle) => put(engine, handle, folder, signal)));
      rival.push(await inSandbox((handle) => dockerCopy(engine, handle, folder, signal)));
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return [
    against({
      metric: "copy_in_ms",
      unit: "ms",
      ours: quantile(ours, 0.5),
      rival: quantile(rival, 0.5),
      rivalName: "docker cp",
      runs: RUNS,
    }),
  ];
};

async function put(engine: SandboxProvider, handle: string, folder: string, signal: AbortSignal) {
  const totals = await engine.files?.put(handle, { body: packTree(folder) }, signal);
  if (totals?.files !== FILES) throw new Error(`${totals?.files} files got in`);
}

async function dockerCopy(
  engine: SandboxProvider,
  handle: string,
  folder: string,
  signal: AbortSignal,
) {
  const info = await engine.inspect(handle, signal);
  await run("docker", ["cp", `${folder}/.`, `${info?.id}:/workspace`], { signal });
}

function makeFiles(folder: string): void {
  const bytes = new Uint8Array(Math.ceil(TOTAL_BYTES / FILES));
  for (let i = 0; i < FILES; i++) {
    const dir = join(folder, `d${Math.floor(i / FILES_PER_FOLDER)}`);
    if (i % FILES_PER_FOLDER === 0) mkdirSync(dir);
    writeFileSync(join(dir, `f${i}`), randomFillSync(bytes));
  }
}
