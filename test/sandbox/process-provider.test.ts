import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findCgroups } from "../../src/sandbox/drivers/process/cgroups.ts";
import { hostProcess } from "../../src/sandbox/drivers/process/proc.ts";
import { processProvider } from "../../src/sandbox/drivers/process/process-provider.ts";
import {
  CACHE_DIR,
  quietLog,
  runInside,
  sandboxProviderSuite,
  skipped,
} from "../suites/sandbox-provider-suite.ts";

/** Killed, it still takes a moment to leave the process table. */
async function gone(pid: number): Promise<void> {
  while ((await hostProcess(pid))?.zombie === false) await Bun.sleep(10);
}

const probe = await processProvider({
  instanceId: "probe",
  runRoot: "/tmp",
  cacheDir: CACHE_DIR,
  log: quietLog,
}).probe(AbortSignal.timeout(20_000));

if (!probe.confined) {
  skipped("sandbox provider process", probe.reason ?? "not confined", "run as root on Linux");
} else {
  sandboxProviderSuite({
    name: "process",
    make: (parts) => processProvider({ ...parts, cacheDir: CACHE_DIR, log: quietLog }),
    leftovers: ({ instanceId }) => findCgroups(instanceId),
  });

  test("a sandbox whose directory was wiped is ended by the next ensure or remove", async () => {
    const signal = AbortSignal.timeout(60_000);
    const instanceId = `wiped${process.pid}`;
    const runRoot = await mkdtemp(join(tmpdir(), "deco-w-"));
    const provider = processProvider({ instanceId, runRoot, cacheDir: CACHE_DIR, log: quietLog });
    const context = { instanceId, onStage() {} };
    const pidOf = async () =>
      Number((await provider.ensure("w", {}, context, signal)).id.split(".")[0]);
    const first = await pidOf();
    await rm(runRoot, { recursive: true });
    const second = await pidOf();
    await gone(first);
    await rm(runRoot, { recursive: true });
    await provider.remove("w", signal);
    await gone(second);
    expect(await findCgroups(instanceId)).toEqual([]);
  }, 60_000);

  test("what the kernel ends for lack of memory is told with the limit, in this life of the sandbox alone", async () => {
    const signal = AbortSignal.timeout(60_000);
    const instanceId = `oom${process.pid}`;
    const runRoot = await mkdtemp(join(tmpdir(), "deco-o-"));
    const provider = processProvider({ instanceId, runRoot, cacheDir: CACHE_DIR, log: quietLog });
    const ensure = () =>
      provider.ensure(
        "oom",
        { resources: { memoryMib: 256 } },
        { instanceId, onStage() {} },
        signal,
      );
    try {
      expect((await ensure()).outOfMemory).toBeUndefined();
      await runInside(provider, "oom", "busybox tail /dev/zero; true", signal);
      const lacked = { outOfMemory: { limitMib: 256 } };
      expect(await provider.inspect("oom", signal)).toMatchObject(lacked);
      expect(await ensure()).toMatchObject(lacked);
      await provider.remove("oom", signal);
      expect((await ensure()).outOfMemory).toBeUndefined();
    } finally {
      await provider.remove("oom", signal);
      await rm(runRoot, { recursive: true });
    }
  }, 60_000);
}
