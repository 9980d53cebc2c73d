import { describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import type { ResolvedSpec } from "../../src/sandbox/sandbox-spec.ts";
import { runInside } from "../suites/sandbox-provider-suite.ts";
import { type DockerLab, dockerLab } from "../support/docker-lab.ts";
import { isSoak, report } from "../support/fault-chance.ts";

const CYCLES = 200;
const AT_ONCE = 40;
const KEPT = { warmSandboxes: 2, pausePool: 2 };
const signal = AbortSignal.timeout(3_500_000);

if (isSoak) soak(await dockerLab("soak"));
else process.stderr.write("SKIPPED sandboxes by hundreds: run `npm run test:soak`\n");

async function settled() {
  Bun.gc(true);
  const files = (await readdir("/proc/self/fd")).length;
  return { files, mib: process.memoryUsage().rss / 2 ** 20 };
}

function soak({ available, runRoot, context, make, objects }: DockerLab): void {
  const left = async () => [...Object.values(await objects()).flat(), ...(await readdir(runRoot))];

  /** Every second one without a network; each is looked into, so that it was one. */
  const cycle = async (provider: SandboxProvider, count: number) => {
    let next = 0;
    const worker = async () => {
      for (let i = next++; i < count; i = next++) {
        const handle = `cycle-${i}`;
        const spec: ResolvedSpec = i % 2 === 0 ? {} : { egress: "none" };
        await provider.ensure(handle, spec, context, signal);
        const { output } = await runInside(provider, handle, `echo ${i}; ls -A`, signal);
        expect(output).toBe(`${i}\n`);
        await provider.remove(handle, signal);
      }
    };
    await Promise.all([worker(), worker()]);
  };

  describe.skipIf(!available)("sandboxes by hundreds", () => {
    test("200 made, used and removed, leased ones among them, leave no object, file, socket or memory", async () => {
      const provider = make(KEPT);
      // The first ones fill the runtime's heap; a leak would go on behind them.
      await cycle(provider, CYCLES);
      const before = await settled();
      const began = provider.madeAhead?.().leased ?? 0;
      await cycle(provider, CYCLES);
      const after = await settled();
      const leased = (provider.madeAhead?.().leased ?? 0) - began;
      const grown = Math.round((after.mib - before.mib) * 10) / 10;
      report(
        `200 cycles: ${leased} leased, ${grown} MiB more, files ${before.files}→${after.files}`,
      );
      expect(leased).toBeGreaterThan(0);
      expect(grown).toBeLessThanOrEqual(8);
      expect(after.files).toBeLessThanOrEqual(before.files + 4);
      await provider.close?.(signal);
      expect(await left()).toEqual([]);
    }, 3_000_000);

    test("40 wanted at once are all made, each its own, and all go", async () => {
      const provider = make(KEPT);
      const handles = Array.from({ length: AT_ONCE }, (_, at) => `many-${at}`);
      const started = performance.now();
      const made = await Promise.all(
        handles.map((handle) => provider.ensure(handle, {}, context, signal)),
      );
      const readyMs = Math.round(performance.now() - started);
      expect(new Set(made.map(({ id }) => id)).size).toBe(AT_ONCE);
      const inside = async (handle: string) => {
        const say = `echo ${handle} >f; cat f; ls -A`;
        const { output, last } = await runInside(provider, handle, say, signal);
        return last.type === "run.completed" ? output : `${output}${JSON.stringify(last)}`;
      };
      expect(await Promise.all(handles.map(inside))).toEqual(handles.map((one) => `${one}\nf\n`));
      expect((await provider.list(signal)).map(({ handle }) => handle).toSorted()).toEqual(
        handles.toSorted(),
      );
      await Promise.all(handles.map((handle) => provider.remove(handle, signal)));
      report(`40 at once: all ready in ${readyMs} ms`);
      await provider.close?.(signal);
      expect(await left()).toEqual([]);
    }, 600_000);
  });
}
