import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  findCgroups,
  makeCgroups,
  removeCgroups,
} from "../../src/sandbox/drivers/process/cgroups.ts";
import { probeMark, sweepProbes } from "../../src/sandbox/drivers/process/probe-sweep.ts";

const isRoot = process.getuid?.() === 0;

test.skipIf(!isRoot)(
  "what a daemon that was killed at its probe left is taken away by the next; of the living nothing",
  async () => {
    const instanceId = `sweep${process.pid}`;
    const dead = spawn("true");
    await once(dead, "exit");
    const limits = { memoryMib: 64, cpus: 1, pids: 8 };
    const made = await Promise.all(
      [dead.pid ?? 0, process.pid].map(async (pid) => ({
        directory: await mkdtemp(join(tmpdir(), `deco-${probeMark(instanceId, pid)}`)),
        groups: await makeCgroups(`${probeMark(instanceId, pid)}x`, limits),
      })),
    );
    const [orphan, living] = made;
    if (orphan === undefined || living === undefined) throw new Error("none made");
    try {
      await sweepProbes(instanceId);
      expect(stat(orphan.directory)).rejects.toThrow("ENOENT");
      expect((await stat(living.directory)).isDirectory()).toBe(true);
      expect((await findCgroups(`probe-${instanceId}`)).toSorted()).toEqual(
        living.groups.toSorted(),
      );
    } finally {
      for (const { directory, groups } of made) {
        await removeCgroups(groups);
        await rm(directory, { recursive: true, force: true });
      }
    }
  },
);
