import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../src/daemon/log.ts";
import { createReconcile } from "../../src/daemon/reconcile.ts";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import { CACHE_DIR, quietLog } from "../suites/sandbox-provider-suite.ts";
import { canOwnEngine, type OwnEngine, ownEngine } from "../support/e2e-engine.ts";
import { isSkipped } from "../support/engines.ts";

const signal = AbortSignal.timeout(280_000);
const HANDLE = "r-00000000000000aa";
const instanceId = `death${process.pid}`;

describe.skipIf(isSkipped("dockerd that this user may start", canOwnEngine))(
  "an engine that is killed while a sandbox is made",
  () => {
    let engine: OwnEngine;
    let runRoot: string;

    const daemon = () =>
      dockerProvider({
        instanceId,
        runRoot,
        cacheDir: CACHE_DIR,
        log: quietLog,
        dockerHost: engine.host,
      });
    const ensure = async (onStage: (stage: string) => void = () => {}) =>
      await daemon().ensure(HANDLE, { egress: "none" }, { instanceId, onStage }, signal);
    const left = async () => {
      const containers = await engine.docker("ps", "-aq");
      const volumes = await engine.docker("volume", "ls", "-q");
      return [containers, volumes, ...(await readdir(runRoot))].join("\n").trim();
    };

    beforeAll(async () => {
      engine = await ownEngine();
      runRoot = await mkdtemp(join(tmpdir(), "deco-d-"));
      await ensure();
      await daemon().remove(HANDLE, signal);
    }, 120_000);
    afterAll(async () => {
      await engine?.[Symbol.asyncDispose]();
      if (runRoot !== undefined) await rm(runRoot, { recursive: true, force: true });
    }, 60_000);

    for (const at of ["create", "boot", "ready"]) {
      test(`at stage ${at}: typed, and the next daemon takes away what it left`, async () => {
        let killed: Promise<void> | undefined;
        const making = ensure((stage) => {
          if (stage === at) killed ??= engine.kill();
        });
        await expect(making).rejects.toMatchObject({
          code: expect.stringMatching(/^(docker_unavailable|sandbox_failed|sandbox_lost)$/),
        });
        expect(killed).toBeDefined();
        await killed;
        await engine.start();
        let clock = Date.now();
        const real = Date.now;
        Date.now = () => clock;
        try {
          const reconcile = createReconcile({
            providers: () => [next],
            busy: () => false,
            remove: (from, handle, within) => from.remove(handle, within),
            failLost: () => Promise.resolve(0),
            log: silentLog,
          });
          const next = daemon();
          await reconcile.once(signal);
          clock += 3_600_000;
          await reconcile.once(signal);
        } finally {
          Date.now = real;
        }
        expect(await left()).toBe("");
        expect((await ensure()).status).toBe("running");
        await daemon().remove(HANDLE, signal);
        expect(await left()).toBe("");
      }, 120_000);
    }
  },
);
