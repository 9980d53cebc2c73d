// Stands for node:fs/promises in the programs under test: they touch sockets' inodes only.
export * from "node:fs/promises";

export function lstat(path: string): Promise<{ readonly ino: number }> {
  return Promise.resolve({ ino: path.length });
}
