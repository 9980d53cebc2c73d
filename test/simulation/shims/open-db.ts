// Stands for src/storage/open-db.ts: the file is the disk of the program that opens it.
import type { Db } from "../../../src/storage/open-db.ts";
import { theWorld } from "../core/current.ts";
import { machineOf } from "../nodes/machine.ts";

export { sqliteCode } from "../../../src/storage/open-db.ts";

export function openDb(_path: string): Db {
  const world = theWorld();
  const program = world.current;
  return machineOf(program).disk.open(program, () => world.kill(program));
}
