import { describe, expect, test } from "bun:test";
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { silentLog } from "../../src/daemon/log.ts";
import { createReconcile } from "../../src/daemon/reconcile.ts";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import { dockerAnswers, isSkipped } from "../support/engines.ts";

const CACHE = join(import.meta.dirname, "../../.cache/deco");
const run = promisify(execFile);
const unique = process.pid.toString(36).padStart(5, "0");
const OURS = `recon${unique}`;
const THEIRS = `other${unique}`;

const label = (key: string, value: string) => ["--label", `dev.deco-link.${key}=${value}`];

/** What a daemon left that died between create and start. */
async function halfMade(instanceId: string, handle: string, image: string): Promise<void> {
  const labels = [...label("instance", instanceId), ...label("handle", handle)];
  await run("docker", ["create", "--name", `deco-${instanceId}-${handle}`, ...labels, image]);
}

async function containers(): Promise<string[]> {
  const filter = ["--filter", `name=${unique}`, "--format", "{{.Names}}"];
  const { stdout } = await run("docker", ["ps", "-a", ...filter]);
  return stdout.split("\n").filter(Boolean).toSorted();
}

describe.skipIf(isSkipped("Docker engine", await dockerAnswers()))("reconcile with Docker", () => {
  test("a container that a crash left half made goes; a thread's, a neighbour's and a working one stay", async () => {
    const root = await mkdtemp(join(tmpdir(), "rec-"));
    const signal = AbortSignal.timeout(100_000);
    const common = { runRoot: root, cacheDir: CACHE, log: silentLog };
    const provider = dockerProvider({ ...common, instanceId: OURS });
    const [working, half, thread] = [
      "r-00000000000000aa",
      "r-00000000000000bb",
      "t-00000000000000cc",
    ];
    let clock = Date.now();
    const reconcile = createReconcile({
      providers: () => [provider],
      busy: (handle) => handle === working,
      remove: (from, handle, within) => from.remove(handle, within),
      failLost: () => Promise.resolve(0),
      log: silentLog,
      now: () => clock,
    });
    try {
      const context = { instanceId: OURS, onStage: () => {} };
      const { image = "" } = await provider.ensure(working, {}, context, signal);
      await halfMade(OURS, half, image);
      await halfMade(OURS, thread, image);
      await halfMade(THEIRS, half, image);
      const all = await containers();
      expect(all).toHaveLength(4);
      await reconcile.once(signal);
      expect(await containers()).toEqual(all);
      clock += 3_600_000;
      await reconcile.once(signal);
      expect(await containers()).toEqual(all.filter((name) => name !== `deco-${OURS}-${half}`));
      expect(reconcile.counts()).toMatchObject({ running: 1, stopped: 2, unknown: 0, removed: 1 });
    } finally {
      for (const name of await containers()) await run("docker", ["rm", "-f", "-v", name]);
      for (const handle of [working, half, thread]) await provider.remove(handle, signal);
      await provider.close?.(signal);
      await rm(root, { recursive: true, force: true });
    }
  }, 120_000);
});
