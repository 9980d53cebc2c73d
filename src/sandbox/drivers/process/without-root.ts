import { access, constants, readFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * What a user without root lacks on this machine for a confined process: a second uid, and limits on
 * the memory and the pids of a whole group (RLIMIT_DATA counts each process by itself).
 */
export async function missingWithoutRoot(user: { uid: number; name: string }): Promise<string[]> {
  const missing: string[] = [];
  if (!(await isUsable("/usr/bin/newuidmap", constants.X_OK))) missing.push("newuidmap");
  const ranges = await readFile("/etc/subuid", "utf8").catch(() => "");
  const owners = new Set(ranges.split("\n").map((line) => line.split(":")[0]));
  if (!owners.has(user.name) && !owners.has(String(user.uid))) {
    missing.push(`a range of uids for ${user.name} in /etc/subuid`);
  }
  if (!(await hasOwnCgroup(user.uid))) {
    missing.push("a cgroup of the user's own with memory and pids (systemd, cgroups 2)");
  }
  return missing;
}

async function hasOwnCgroup(uid: number): Promise<boolean> {
  const own = `/sys/fs/cgroup/user.slice/user-${uid}.slice/user@${uid}.service`;
  const controllers = await readFile(join(own, "cgroup.controllers"), "utf8").catch(() => "");
  const names = controllers.trim().split(" ");
  return ["memory", "pids"].every((name) => names.includes(name)) && isUsable(own, constants.W_OK);
}

const isUsable = (path: string, mode: number) =>
  access(path, mode).then(
    () => true,
    () => false,
  );
