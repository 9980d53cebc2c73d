import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import { ensureNpmFiles } from "./images/npm-package.ts";
import { isHost, npmArch, type Target } from "./images/target.ts";
import { runCommand } from "./run-command.ts";
import { untilAbort } from "./until-abort.ts";

export interface HarnessdBinaryOptions {
  /** Directory that outlives the daemon; binaries go to `harnessd/<hash>` in it. */
  readonly cacheDir: string;
  readonly signal: AbortSignal;
  /** This machine's own platform when absent. */
  readonly target?: Target;
}

/** Bytecode: 1.7 MiB less memory in each idle sandbox than parsing at the start, for 3.5 MB on disk. */
const BUILD_FLAGS = ["--compile", "--minify", "--bytecode"] as const;
const BUILD_TIMEOUT_MS = 120_000;
const KEPT_BINARIES = 6;

const building = new Map<string, Promise<string>>();

/**
 * Compiles harnessd into one executable, or finds the one that the same sources
 * and the same Bun gave before. Callers at the same time share one build; builders in other
 * processes meet at an atomic rename. For another platform the runtime comes from npm; no
 * emulation is needed.
 *
 * @returns path of the executable (mode 0755)
 * @throws sandbox_failed when it does not compile, image_missing when npm has no runtime for it
 */
export async function ensureHarnessdBinary(options: HarnessdBinaryOptions): Promise<string> {
  const source = await harnessdSource();
  const { cacheDir, target } = options;
  const foreign = target === undefined || isHost(target) ? undefined : target;
  const folder = `${source.hash}${foreign === undefined ? "" : `-${bunName(foreign)}`}`;
  const path = join(cacheDir, "harnessd", folder, "harnessd");
  if (await stat(path).catch(() => undefined)) {
    await utimes(dirname(path), new Date(), new Date()).catch(() => undefined);
    return path;
  }
  let work = building.get(path);
  if (work === undefined) {
    work = build(source.entry, path, foreign && { cacheDir, target: foreign }).finally(() =>
      building.delete(path),
    );
    building.set(path, work);
  }
  return await untilAbort(work, options.signal);
}

interface Foreign {
  readonly cacheDir: string;
  readonly target: Target;
}

async function build(entry: string, path: string, foreign: Foreign | undefined): Promise<string> {
  const signal = AbortSignal.timeout(BUILD_TIMEOUT_MS);
  const runtime = foreign && (await runtimeFor(foreign, signal));
  const work = `${dirname(path)}.${randomBytes(6).toString("hex")}`;
  await mkdir(work, { recursive: true });
  try {
    const outfile = join(work, "harnessd");
    const bun = await bunExecutable();
    const result = await runCommand(
      [bun, "build", ...BUILD_FLAGS, ...(runtime ?? []), entry, "--outfile", outfile],
      { signal },
    );
    if (result.exitCode !== 0) {
      throw new DecoError("sandbox_failed", `harnessd does not compile: ${result.stderr.trim()}`, {
        fix: "Run `npm ci` again; report it with this message when it stays.",
      });
    }
    await rename(work, dirname(path)).catch(async (thrown: unknown) => {
      // Another process was faster: its result is as good.
      if (!(await stat(path).catch(() => undefined))) throw thrown;
    });
    await pruneOld(dirname(dirname(path)));
    return path;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** npm's name of Bun for a target, without its scope. */
function bunName(target: Target): string {
  const arch = npmArch(target) === "arm64" ? "aarch64" : "x64";
  return `bun-linux-${arch}${target.libc === "musl" ? "-musl" : ""}`;
}

async function runtimeFor({ cacheDir, target }: Foreign, signal: AbortSignal): Promise<string[]> {
  const name = bunName(target);
  const wanted = {
    name: `@oven/${name}`,
    version: await bunVersion(),
    files: ["bin/bun"],
  } as const;
  const home = await ensureNpmFiles(wanted, cacheDir, signal);
  return [`--target=${name}`, `--compile-executable-path=${join(home, "bin", "bun")}`];
}

/** Keeps the newest few builds: each is about 100 MB. */
async function pruneOld(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => /^[0-9a-f]{12}(-bun-.+)?$/.test(name));
  const dated = await Promise.all(
    names.map(async (name) => {
      const stats = await stat(join(directory, name)).catch(() => undefined);
      return { name, at: stats?.mtimeMs ?? 0 };
    }),
  );
  const old = dated.toSorted((a, b) => b.at - a.at).slice(KEPT_BINARIES);
  for (const { name } of old) await rm(join(directory, name), { recursive: true, force: true });
}

export interface HarnessdSource {
  readonly entry: string;
  /** 12 hex digits over every input of the build and the version of Bun. */
  readonly hash: string;
}

/** From a checkout src/harnessd/main.ts with what it may import; installed, dist/harnessd.js. */
export async function harnessdSource(): Promise<HarnessdSource> {
  const here = dirname(fileURLToPath(import.meta.url));
  const hash = createHash("sha256").update(`${await bunVersion()} ${BUILD_FLAGS.join(" ")}`);
  const bundled = join(here, "harnessd.js");
  if (await stat(bundled).catch(() => undefined)) {
    hash.update(await readFile(bundled));
    return { entry: bundled, hash: hash.digest("hex").slice(0, 12) };
  }
  const src = dirname(here);
  for (const folder of ["harnessd", "net", "protocol"]) {
    for (const file of await sources(join(src, folder))) {
      hash.update(`\0${relative(src, file)}\0`).update(await readFile(file));
    }
  }
  const entry = join(src, "harnessd", "main.ts");
  return { entry, hash: hash.digest("hex").slice(0, 12) };
}

async function sources(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
}

const require = createRequire(import.meta.url);

async function bunVersion(): Promise<string> {
  if (process.versions["bun"] !== undefined) return process.versions["bun"];
  const text = await readFile(require.resolve("bun/package.json"), "utf8");
  const manifest: unknown = JSON.parse(text);
  return z.object({ version: z.string() }).parse(manifest).version;
}

/** The Bun that runs us, else the one of the `bun` package, whose shim `npx bun` is slower. */
export async function bunExecutable(): Promise<string> {
  if (process.versions["bun"] !== undefined) return process.execPath;
  const path = join(dirname(require.resolve("bun/package.json")), "bin", "bun.exe");
  // Without its install script the package holds a stub of a few hundred bytes.
  const size = (await stat(path).catch(() => undefined))?.size ?? 0;
  if (size > 1_000_000) return path;
  throw new DecoError("sandbox_failed", "the bun package was installed without its binary", {
    fix: "Run `npm rebuild bun`.",
  });
}
