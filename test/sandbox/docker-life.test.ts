import { afterEach, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../src/daemon/log.ts";
import { createReconcile } from "../../src/daemon/reconcile.ts";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import type { ExecChunk } from "../../src/sandbox/provider.ts";
import { CACHE_DIR, quietLog } from "../suites/sandbox-provider-suite.ts";
import { dockerLab, until } from "../support/docker-lab.ts";
import { engineDoor } from "../support/engine-door.ts";

const lab = await dockerLab("life");
const signal = AbortSignal.timeout(280_000);
const HOUR_AGO = new Date(Date.now() - 3_600_000);
const LATER = Date.now() + 3_600_000;

afterEach(async () => {
  const provider = lab.make();
  for (const { handle } of await provider.list(signal)) await provider.remove(handle, signal);
  await provider.close?.(signal);
});

const labels = (instance: string, handle: string) => ({
  "dev.deco-link.instance": instance,
  "dev.deco-link.handle": handle,
});

/** What a daemon that died leaves: a volume, a network and two run directories, all without a container. */
async function leave(instance: string, runRoot: string, handle: string): Promise<void> {
  await lab.docker.createVolume({ Name: `${instance}-vol`, Labels: labels(instance, handle) });
  await lab.docker.createNetwork({
    Name: `${instance}-net`,
    Labels: { "dev.deco-link.instance": instance },
  });
  const record = {
    handle,
    provider: "docker",
    token: "t",
    createdAt: HOUR_AGO.toISOString(),
    specHash: "x",
    uid: 1000,
  };
  for (const [name, text] of [
    ["00000000aa", JSON.stringify(record)],
    ["00000000bb", undefined],
  ] as const) {
    await mkdir(join(runRoot, name, "run"), { recursive: true });
    if (text !== undefined) await writeFile(join(runRoot, name, "sandbox.json"), text);
    await utimes(join(runRoot, name), HOUR_AGO, HOUR_AGO);
  }
}

async function things(instance: string): Promise<string[]> {
  const filters = { label: [`dev.deco-link.instance=${instance}`] };
  const { Volumes } = await lab.docker.listVolumes({ filters: JSON.stringify(filters) });
  const networks = await lab.docker.listNetworks({ filters: JSON.stringify(filters) });
  return [...(Volumes ?? []), ...networks].map(({ Name }) => Name).toSorted();
}

const reconcileOf = (provider: ReturnType<typeof lab.make>) =>
  createReconcile({
    providers: () => [provider],
    busy: () => false,
    remove: (from, handle, within) => from.remove(handle, within),
    failLost: () => Promise.resolve(0),
    log: silentLog,
  });

const all = async (chunks: AsyncIterable<ExecChunk> | undefined) => {
  const said = { stdout: "", stderr: "", exitCode: -1 };
  for await (const chunk of chunks ?? []) {
    if ("exitCode" in chunk) said.exitCode = chunk.exitCode;
    else said[chunk.stream] += chunk.content;
  }
  return said;
};

describe.skipIf(!lab.available)("what daemons left behind", () => {
  test("goes by label, and nothing of a neighbour's or of a living sandbox with it", async () => {
    const other = `next${process.pid}`;
    const otherRoot = await mkdtemp(join(tmpdir(), "deco-n-"));
    const neighbour = dockerProvider({
      instanceId: other,
      runRoot: otherRoot,
      cacheDir: CACHE_DIR,
      log: quietLog,
    });
    const provider = lab.make();
    try {
      await provider.ensure("alive", {}, lab.context, signal);
      await neighbour.ensure("alive", {}, { ...lab.context, instanceId: other }, signal);
      const mine = (await lab.objects()).sandboxes;
      await leave(lab.instanceId, lab.runRoot, "r-00000000000000dd");
      await leave(other, otherRoot, "r-00000000000000dd");
      const theirs = await things(other);
      // Everything the engine dates is young: it may be on its way to a sandbox.
      const young = await provider.orphans?.(signal);
      expect(young?.map(({ kind }) => kind)).toEqual(["run directory", "run directory"]);
      const now = Date.now;
      Date.now = () => LATER;
      try {
        const reconcile = reconcileOf(provider);
        await reconcile.once(signal);
        expect(reconcile.counts()).toMatchObject({ running: 1, reaped: 4 });
        await reconcile.once(signal);
        expect(reconcile.counts()).toMatchObject({ running: 1, reaped: 4 });
      } finally {
        Date.now = now;
      }
      expect((await lab.objects()).sandboxes).toEqual(mine);
      expect(await readdir(lab.runRoot)).toHaveLength(1);
      expect(await things(other)).toEqual(theirs);
      expect(await readdir(otherRoot)).toHaveLength(3);
      expect((await neighbour.inspect("alive", signal))?.status).toBe("running");
    } finally {
      await neighbour.remove("alive", signal);
      await neighbour.close?.(signal);
      for (const name of [`${other}-vol`, `${lab.instanceId}-vol`]) {
        await lab.docker
          .getVolume(name)
          .remove()
          .catch(() => undefined);
      }
      for (const name of [`${other}-net`, `${lab.instanceId}-net`]) {
        await lab.docker
          .getNetwork(name)
          .remove()
          .catch(() => undefined);
      }
      await rm(otherRoot, { recursive: true });
    }
  }, 60_000);

  test("a thread's workspace without a container is told, and stays for its owner to decide", async () => {
    const provider = lab.make();
    const name = `${lab.instanceId}-thread`;
    const handle = "t-00000000000000ee";
    await lab.docker.createVolume({ Name: name, Labels: labels(lab.instanceId, handle) });
    const now = Date.now;
    Date.now = () => LATER;
    try {
      await reconcileOf(provider).once(signal);
      const orphans = (await provider.orphans?.(signal)) ?? [];
      expect(orphans).toMatchObject([{ kind: "volume", name, handle }]);
      for (const one of orphans) await provider.removeOrphan?.(one, signal);
      expect(await things(lab.instanceId)).not.toContain(name);
    } finally {
      Date.now = now;
      await lab.docker
        .getVolume(name)
        .remove()
        .catch(() => undefined);
    }
  });

  test("a daemon whose engine is gone leaves all the same", async () => {
    await using door = await engineDoor();
    const provider = lab.make({ dockerHost: door.dockerHost, callTimeoutMs: 300 });
    await door.set("shut");
    await provider.close?.(signal);
    expect(await provider.close?.(signal)).toBeUndefined();
  });

  test("an engine that hangs or is gone destroys nothing", async () => {
    await using door = await engineDoor();
    const name = `${lab.instanceId}-hang`;
    await lab.docker.createVolume({
      Name: name,
      Labels: labels(lab.instanceId, "r-00000000000000ff"),
    });
    const provider = lab.make({ dockerHost: door.dockerHost, callTimeoutMs: 300 });
    const now = Date.now;
    Date.now = () => LATER;
    try {
      const reconcile = reconcileOf(provider);
      for (const state of ["stuck", "shut"] as const) {
        await door.set(state);
        await reconcile.once(signal);
        expect(reconcile.counts()).toMatchObject({ unknown: 1, reaped: 0 });
        expect(await things(lab.instanceId)).toContain(name);
      }
      await door.set("open");
      await reconcile.once(signal);
      expect(reconcile.counts()).toMatchObject({ unknown: 0, reaped: 1 });
      expect(await things(lab.instanceId)).not.toContain(name);
    } finally {
      Date.now = now;
      await lab.docker
        .getVolume(name)
        .remove()
        .catch(() => undefined);
    }
  }, 30_000);
});

describe.skipIf(!lab.available)("a program in a sandbox", () => {
  test("runs as the sandbox's user in its workspace, and gives both streams and its exit code", async () => {
    const provider = lab.make();
    await provider.ensure("exec", {}, lab.context, signal);
    const script = "pwd; id -u; echo oops >&2; exit 5";
    const said = await all(provider.exec?.("exec", ["sh", "-c", script], signal));
    expect(said).toMatchObject({ stderr: "oops\n", exitCode: 5 });
    expect(said.stdout).toMatch(/^\/workspace\n[1-9]\d*\n$/);
    const much = await all(
      provider.exec?.("exec", ["sh", "-c", "busybox seq 1 200000 | busybox tee /dev/null"], signal),
    );
    expect(much.stdout).toHaveLength(1_288_895);
    const none = await all(provider.exec?.("exec", ["/no/such/program"], signal)).catch(
      (thrown: unknown) => thrown,
    );
    expect(none).toMatchObject({ exitCode: expect.any(Number) });
  }, 30_000);

  test("is ended when whoever reads it leaves", async () => {
    const provider = lab.make();
    await provider.ensure("leave", {}, lab.context, signal);
    const command = ["sh", "-c", "echo begun; exec sleep 600"];
    for await (const chunk of provider.exec?.("leave", command, signal) ?? []) {
      expect(chunk).toEqual({ stream: "stdout", content: "begun\n" });
      break;
    }
    await until(async () => (await provider.processesLeft("leave", signal)) === 0);
    const stop = new AbortController();
    const reading = all(provider.exec?.("leave", command, stop.signal)).catch(() => "stopped");
    await until(async () => (await provider.processesLeft("leave", signal)) > 0);
    stop.abort();
    expect(await reading).toBe("stopped");
    await until(async () => (await provider.processesLeft("leave", signal)) === 0);
  }, 30_000);
});
