import { mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { DecoError } from "../../protocol/errors.ts";
import { runCommand } from "../run-command.ts";
import type { Platform } from "../templates/template.ts";

/** What images of another architecture take from Debian instead of this machine. */
const PACKAGES = ["libc6", "libtinfo6", "bash", "busybox-static"] as const;
const FETCH_TIMEOUT_MS = 300_000;

/**
 * Debian's packages of another architecture, unpacked into a directory by apt and dpkg. apt checks
 * their signatures; it works on lists of its own, so that this machine's dpkg learns of no other
 * architecture, and needs no root.
 *
 * @returns the directory, with bin/ and lib/ in it
 * @throws image_missing where apt can't get them
 */
export async function ensureDebianRoot(
  cacheDir: string,
  platform: Platform,
  signal: AbortSignal,
): Promise<string> {
  const arch = platform === "linux/arm64" ? "arm64" : "amd64";
  const home = join(cacheDir, "debian", arch);
  const isThere = async () => (await stat(join(home, "bin", "bash")).catch(() => 0)) !== 0;
  if (await isThere()) return home;
  await mkdir(dirname(home), { recursive: true });
  const work = await mkdtemp(join(dirname(home), "fetch-"));
  try {
    const both = AbortSignal.any([signal, AbortSignal.timeout(FETCH_TIMEOUT_MS)]);
    await fetchPackages(work, arch, both);
    await rename(join(work, "root"), home).catch(async (thrown: unknown) => {
      if (!(await isThere())) throw thrown;
    });
    return home;
  } catch (thrown) {
    signal.throwIfAborted();
    const detail = `Debian's packages for ${platform} can't be had here`;
    throw new DecoError("image_missing", detail, {
      cause: thrown,
      fix: `Build on Debian or Ubuntu with network, or on a machine that is ${platform}.`,
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function fetchPackages(work: string, arch: string, signal: AbortSignal): Promise<void> {
  for (const folder of ["lists/partial", "cache/archives/partial", "debs", "root"]) {
    await mkdir(join(work, folder), { recursive: true });
  }
  await writeFile(join(work, "status"), "");
  await writeFile(join(work, "apt.conf"), aptConfig(work, arch));
  const apt = ["apt-get", "-q", "-c", join(work, "apt.conf")] as const;
  const run = async (argv: [string, ...string[]]) => {
    const result = await runCommand(argv, { cwd: join(work, "debs"), signal });
    if (result.exitCode !== 0) throw new Error(`${argv[0]}: ${result.stderr.trim()}`);
  };
  await run([...apt, "update"]);
  await run([...apt, "download", ...PACKAGES]);
  for (const deb of await readdir(join(work, "debs"))) {
    await run(["dpkg-deb", "-x", deb, join(work, "root")]);
  }
}

function aptConfig(work: string, arch: string): string {
  return [
    `APT::Architecture "${arch}"; APT::Architectures { "${arch}"; };`,
    `Dir::State "${work}"; Dir::State::lists "${work}/lists"; Dir::State::status "${work}/status";`,
    `Dir::Cache "${work}/cache"; APT::Sandbox::User "root"; Acquire::Languages "none";`,
    "",
  ].join("\n");
}
