import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import { CACHE_DIR, quietLog, runInside } from "../suites/sandbox-provider-suite.ts";
import { until } from "../support/docker-lab.ts";
import { canOwnEngine, type OwnEngine, ownEngine } from "../support/e2e-engine.ts";
import { isSkipped } from "../support/engines.ts";
import { isSoak, report } from "../support/fault-chance.ts";

const RESTARTS = 20;
const signal = AbortSignal.timeout(3_500_000);
const instanceId = `restart${process.pid}`;
const context = { instanceId, onStage() {} };
const spec = { egress: "none" } as const;

if (isSoak) soak();
else process.stderr.write("SKIPPED an engine that restarts often: run `npm run test:soak`\n");

/** An engine of the test's own: the machine's is never touched. */
function soak(): void {
  describe.skipIf(isSkipped("dockerd that this user may start", canOwnEngine))(
    "an engine that restarts under its sandboxes, by kill and by stop",
    () => {
      let engine: OwnEngine;
      let runRoot: string;
      let provider: SandboxProvider;

      beforeAll(async () => {
        engine = await ownEngine();
        runRoot = await mkdtemp(join(tmpdir(), "deco-r-"));
        const where = { instanceId, runRoot, cacheDir: CACHE_DIR, dockerHost: engine.host };
        provider = dockerProvider({ ...where, log: quietLog, warmSandboxes: 2 });
        await provider.ensure("first", spec, context, signal);
        await provider.remove("first", signal);
      }, 240_000);
      afterAll(async () => {
        await provider?.close?.(signal);
        await engine?.[Symbol.asyncDispose]();
        if (runRoot !== undefined) await rm(runRoot, { recursive: true, force: true });
      }, 120_000);

      const inside = async (handle: string, command: string) =>
        (await runInside(provider, handle, command, signal)).output;
      const ahead = () => provider.madeAhead?.() ?? { ready: 0, leased: 0 };

      test(`${RESTARTS} times: a workspace outlives each, no dead spare is leased, nothing piles up`, async () => {
        await provider.ensure("thread", spec, context, signal);
        for (let time = 0; time < RESTARTS; time++) {
          await until(async () => {
            // As the daemon does every minute: after a failure it is not tried by itself.
            await provider.prepare?.({ ahead: true }, signal);
            return ahead().ready > 0;
          });
          const before = ahead().leased;
          await (time % 2 === 0 ? engine.kill() : engine.stop());
          await engine.start();
          await provider.ensure("thread", spec, context, signal);
          expect(await inside("thread", `echo ${time} >>f; wc -l <f`)).toBe(`${time + 1}\n`);
          const handle = `new-${time}`;
          await provider.ensure(handle, spec, context, signal);
          expect(await inside(handle, "echo works; ls -A")).toBe("works\n");
          // Whether one of before could still be had: a dockerd that was stopped ends all of them.
          if (time % 2 === 1) expect(ahead().leased).toBe(before);
          await provider.remove(handle, signal);
          await provider.prepare?.({ ahead: false }, signal);
          const names = await engine.docker("ps", "-a", "--format", "{{.Names}}");
          expect(names.trim().split("\n").length).toBeLessThanOrEqual(3);
        }
        report(`${RESTARTS} restarts of an engine: ${ahead().leased} leased in all`);
        await provider.remove("thread", signal);
        await provider.close?.(signal);
        expect(await engine.docker("ps", "-aq")).toBe("");
        expect(await engine.docker("volume", "ls", "-q")).toBe("");
        expect(await readdir(runRoot)).toEqual([]);
      }, 1_800_000);
    },
  );
}
