import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { DecoError } from "../../protocol/errors.ts";
import { runCommand } from "../run-command.ts";

export interface NpmPackage {
  /** Such as `@openai/codex`. */
  readonly name: string;
  readonly version: string;
  /** Paths inside the package that are kept; the first one is a program. */
  readonly files: readonly [string, ...string[]];
}

const FETCH_TIMEOUT_MS = 300_000;

/**
 * Files of one package of npm's registry, fetched once by the npm client, which holds the bytes
 * against the registry's integrity. No script of the package runs, and no other package comes along,
 * so that those of another platform can be fetched, too.
 *
 * @returns directory that holds the files at their paths
 * @throws image_missing when npm can't fetch it
 */
export async function ensureNpmFiles(
  wanted: NpmPackage,
  cacheDir: string,
  signal: AbortSignal,
): Promise<string> {
  const home = join(cacheDir, "npm", `${wanted.name.replace("/", "-")}-${wanted.version}`);
  const isThere = async () => (await stat(join(home, wanted.files[0])).catch(() => 0)) !== 0;
  if (await isThere()) return home;
  await mkdir(dirname(home), { recursive: true });
  const work = await mkdtemp(join(dirname(home), "fetch-"));
  try {
    await unpack(wanted, work, await download(wanted, work, signal), signal);
    await rename(join(work, "package"), home).catch(async (thrown: unknown) => {
      // Another process was faster: its copy is as good.
      if (!(await isThere())) throw thrown;
    });
    return home;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function download(wanted: NpmPackage, work: string, signal: AbortSignal): Promise<string> {
  const spec = `${wanted.name}@${wanted.version}`;
  const result = await runCommand(["npm", "pack", "--ignore-scripts", "--silent", spec], {
    cwd: work,
    signal: AbortSignal.any([signal, AbortSignal.timeout(FETCH_TIMEOUT_MS)]),
  });
  const tarball = (await readdir(work)).find((name) => name.endsWith(".tgz"));
  if (result.exitCode === 0 && tarball !== undefined) return join(work, tarball);
  throw new DecoError("image_missing", `npm can't fetch ${spec}: ${result.stderr.trim()}`, {
    fix: `Run \`npm pack ${spec}\` for its reason (network, registry), then \`deco image build\`.`,
  });
}

async function unpack(wanted: NpmPackage, work: string, tarball: string, signal: AbortSignal) {
  const paths = wanted.files.map((path) => `package/${path}`);
  const argv = ["tar", "-xzf", tarball, "-C", work, "--no-same-owner", ...paths] as const;
  const result = await runCommand([...argv], { signal });
  if (result.exitCode === 0) return;
  const detail = `${wanted.name}@${wanted.version} does not hold what it should: ${result.stderr.trim()}`;
  throw new DecoError("image_missing", detail);
}
