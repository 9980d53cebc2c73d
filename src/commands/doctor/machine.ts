import { constants } from "node:fs";
import { access, mkdtemp, rm, stat, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makePaths } from "../../daemon/paths.ts";
import { type Check, fail, ok, warn } from "./check.ts";

const NEEDED = { node: [20, 19], bun: [1, 4] } as const;
/** MiB: an image of ours takes about 120, and a journal must never run out of room. */
const DISK_MIB = { fail: 200, warn: 2048 } as const;

export const machineChecks: readonly Check[] = [
  {
    id: "runtime",
    title: "runtime",
    fix: "Install Node 20.19 or newer, or Bun 1.4 or newer.",
    run: async () => {
      const { bun } = process.versions;
      const name = bun === undefined ? "node" : "bun";
      const version = bun ?? process.versions.node;
      const [major = 0, minor = 0] = version.split(".").map(Number);
      const [wantMajor, wantMinor] = NEEDED[name];
      const detail = `${name} ${version} on ${process.platform} ${process.arch}`;
      if (major > wantMajor || (major === wantMajor && minor >= wantMinor)) return ok(detail);
      return fail(detail, `Install ${name} ${wantMajor}.${wantMinor} or newer.`);
    },
  },
  {
    id: "home",
    title: "home folders",
    fix: "Make them writable for this user, or set DECO_HOME to a folder that is.",
    run: async ({ config: { paths } }) => {
      await makePaths(paths);
      for (const dir of [paths.config, paths.state, paths.data, paths.cache, paths.runtime]) {
        await access(dir, constants.W_OK | constants.X_OK);
        const probe = await mkdtemp(join(dir, ".doctor-"));
        try {
          await writeFile(join(probe, "x"), "x");
        } finally {
          await rm(probe, { recursive: true });
        }
      }
      const { mode } = await stat(paths.state);
      if ((mode & 0o077) !== 0)
        return warn(`${paths.state} may be read by others`, `Run: chmod 700 ${paths.state}`);
      return ok(paths.state);
    },
  },
  {
    id: "disk",
    title: "disk space",
    fix: "Free some disk space.",
    run: async ({ config: { paths } }) => {
      // All checks run at once: on a new home the folder may not be there yet.
      await makePaths(paths);
      const { bavail, bsize } = await statfs(paths.state);
      const freeMib = Math.floor((bavail * bsize) / 1024 / 1024);
      const detail = `${freeMib} MiB free in ${paths.state}`;
      if (freeMib < DISK_MIB.fail) return fail(detail, "Free disk space; the journal needs room.");
      if (freeMib < DISK_MIB.warn) return warn(detail, "Free disk space before it gets scarce.");
      return ok(detail);
    },
  },
];
