import { describe, expect, test } from "bun:test";
import { runInside } from "../suites/sandbox-provider-suite.ts";
import { dockerLab, until } from "../support/docker-lab.ts";
import { engineDoor } from "../support/engine-door.ts";

const signal = AbortSignal.timeout(200_000);
const { available, docker, instanceId, context, make, objects } = await dockerLab("pause");

const pauses = async () => (await objects()).pauses;
const running = async () => {
  const filters = { label: [`dev.deco-link.instance=${instanceId}`, "dev.deco-link.role=pause"] };
  return await docker.listContainers({ filters });
};
const filled = (size: number) => until(async () => (await running()).length === size);
const modeOf = async (id: string) =>
  (await docker.getContainer(id).inspect()).HostConfig.NetworkMode ?? "";
const pauseOf = async (id: string) => docker.getContainer((await modeOf(id)).replace(/^.*:/, ""));

/** A provider whose pool of one is full. */
const filledProvider = async () => {
  const provider = make({ pausePool: 1 });
  // Builds the image where there is none.
  await provider.ensure("first", { egress: "none" }, context, signal);
  await provider.remove("first", signal);
  await provider.prepare?.({ ahead: true }, signal);
  await filled(1);
  return provider;
};

describe.skipIf(!available)("pause containers", () => {
  test("a sandbox joins a pause that was made ahead, which has no right and is no sandbox", async () => {
    const provider = await filledProvider();
    const [ahead] = await running();
    expect(ahead?.Names.join()).toStartWith(`/deco-${instanceId.slice(0, 12)}-pause-`);
    expect(await provider.list(signal)).toEqual([]);
    const { Config, HostConfig } = await docker.getContainer(ahead?.Id ?? "").inspect();
    expect(Config.User).toBe("65534:65534");
    expect(HostConfig).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges"],
      Memory: 16 * 1024 * 1024,
      PidsLimit: 8,
      RestartPolicy: { Name: "no" },
    });
    expect(HostConfig.Binds ?? []).toEqual([]);
    const info = await provider.ensure("joined", {}, context, signal);
    expect(await modeOf(info.id)).toBe(`container:${ahead?.Id}`);
    const command =
      "hostname; grep -c $(hostname) /etc/hosts; cat /etc/resolv.conf; ls /sys/class/net";
    const { output } = await runInside(provider, "joined", command, signal);
    const lines = output.split("\n");
    expect(lines.slice(0, 2)).toEqual([ahead?.Id.slice(0, 12) ?? "", "1"]);
    expect(lines).toContain("eth0");
    expect(output).toContain("nameserver");
    await filled(2);
    expect((await provider.list(signal)).map(({ handle }) => handle)).toEqual(["joined"]);
    await provider.remove("joined", signal);
    expect(await pauses()).toHaveLength(1);
    await provider.close?.(signal);
    expect(Object.values(await objects()).flat()).toEqual([]);
  }, 30_000);

  test("no two sandboxes share one: who finds none has a network of its own", async () => {
    const provider = await filledProvider();
    const infos = await Promise.all(
      ["a", "b"].map((handle) => provider.ensure(handle, {}, context, signal)),
    );
    const modes = await Promise.all(infos.map(({ id }) => modeOf(id)));
    expect(modes.filter((mode) => mode.startsWith("container:"))).toHaveLength(1);
    expect(modes).toContain(`deco-${instanceId.slice(0, 12)}`);
    const address = "hostname -i";
    const [a, b] = await Promise.all(
      ["a", "b"].map((handle) => runInside(provider, handle, address, signal)),
    );
    expect(a?.output).not.toBe(b?.output);
    const reach = `nc -w 2 ${a?.output.trim()} 4711 </dev/null`;
    const ask = runInside(provider, "b", `sleep 0.5; ${reach} || echo unreached`, signal);
    const serve = "while :; do echo hello | nc -l -p 4711; done & sleep 0.3;";
    const own = await runInside(provider, "a", `${serve} ${reach}; sleep 3`, signal);
    expect(own.output).toBe("hello\n");
    expect((await ask).output).toEndWith("unreached\n");
    await Promise.all(["a", "b"].map((handle) => provider.remove(handle, signal)));
    await provider.close?.(signal);
  }, 30_000);

  test("a stopped sandbox is started again in its pause, also when that had stopped or was cut off", async () => {
    const provider = await filledProvider();
    const made = await provider.ensure("again", {}, context, signal);
    await runInside(provider, "again", "echo kept >/workspace/f", signal);
    const pause = await pauseOf(made.id);
    await docker.getContainer(made.id).kill();
    expect((await provider.ensure("again", {}, context, signal)).id).toBe(made.id);
    await docker.getContainer(made.id).kill();
    await pause.kill();
    expect((await provider.ensure("again", {}, context, signal)).id).toBe(made.id);
    await docker.getContainer(made.id).kill();
    await pause.kill();
    await until(async () => (await running()).length === 1);
    await provider.close?.(signal);
    await docker.getNetwork(`deco-${instanceId.slice(0, 12)}`).remove();
    expect((await provider.ensure("again", {}, context, signal)).id).toBe(made.id);
    const seen = await runInside(provider, "again", "cat /workspace/f; ls /sys/class/net", signal);
    expect(seen.output.split("\n")).toContain("eth0");
    expect(seen.output).toStartWith("kept\n");
    await provider.remove("again", signal);
    expect(await pauses()).toEqual([]);
  }, 60_000);

  test("a sandbox whose pause was removed is made anew around its workspace", async () => {
    const provider = await filledProvider();
    const made = await provider.ensure("anew", {}, context, signal);
    await runInside(provider, "anew", "echo kept >/workspace/f", signal);
    const pause = await pauseOf(made.id);
    await docker.getContainer(made.id).kill();
    await pause.remove({ force: true });
    const again = await provider.ensure("anew", {}, context, signal);
    expect(again.id).not.toBe(made.id);
    expect(again.createdAt).toBe(made.createdAt);
    const seen = await runInside(provider, "anew", "cat /workspace/f; ls /sys/class/net", signal);
    expect(seen.output).toStartWith("kept\n");
    expect(seen.output.split("\n")).toContain("eth0");
    await provider.remove("anew", signal);
    await provider.close?.(signal);
  }, 60_000);

  test("a pause that ended under a running sandbox costs it a restart, but never under a run", async () => {
    const provider = await filledProvider();
    const made = await provider.ensure("cut", {}, context, signal);
    await (await pauseOf(made.id)).kill();
    const used = { ...context, inUse: () => true };
    const left = await provider.ensure("cut", {}, used, signal);
    expect(left.startedAt).toBe(made.startedAt);
    const again = await provider.ensure("cut", {}, context, signal);
    expect(again.startedAt).not.toBe(made.startedAt);
    const seen = await runInside(provider, "cut", "ls /sys/class/net", signal);
    expect(seen.output.split("\n")).toContain("eth0");
    await provider.remove("cut", signal);
    await provider.close?.(signal);
  }, 60_000);

  test("a pause that ended in the pool is not leased, and is replaced", async () => {
    const provider = await filledProvider();
    const [dead] = await running();
    await docker.getContainer(dead?.Id ?? "").kill();
    const info = await provider.ensure("none-left", {}, context, signal);
    expect(await modeOf(info.id)).not.toContain("container:");
    await provider.prepare?.({ ahead: true }, signal);
    await filled(1);
    const [fresh] = await running();
    await docker.getContainer(fresh?.Id ?? "").kill();
    await provider.prepare?.({ ahead: true }, signal);
    await filled(1);
    expect(await pauses()).toHaveLength(1);
    expect((await running())[0]?.Id).not.toBe(fresh?.Id);
    await provider.remove("none-left", signal);
    await provider.close?.(signal);
  }, 60_000);

  test("the next daemon ends what one that died left of its pool, and spares what is joined", async () => {
    const died = await filledProvider();
    const made = await died.ensure("stays", {}, context, signal);
    await filled(2);
    const next = make({ pausePool: 0 });
    await next.prepare?.({ ahead: true }, signal);
    await until(async () => (await pauses()).length === 1);
    expect((await pauseOf(made.id)).id).toBe((await running())[0]?.Id ?? "");
    expect((await runInside(next, "stays", "echo on", signal)).output).toBe("on\n");
    await next.remove("stays", signal);
    await next.close?.(signal);
  }, 60_000);

  for (const at of ["create", "boot", "ready"]) {
    test(`an abort at stage ${at} takes the pause along`, async () => {
      const provider = await filledProvider();
      const stop = new AbortController();
      const onStage = (stage: string) => {
        if (stage === at) stop.abort(new Error("no longer wanted"));
      };
      const work = provider.ensure("aborted", {}, { ...context, onStage }, stop.signal);
      expect(await work.catch((thrown: Error) => thrown.message)).toBe("no longer wanted");
      await provider.close?.(signal);
      expect(Object.values(await objects()).flat()).toEqual([]);
    }, 30_000);
  }

  test("an engine that hangs while the pool is filled holds up nobody else, and leaves nothing", async () => {
    const known = await filledProvider();
    await known.close?.(signal);
    await using door = await engineDoor();
    const provider = make({ pausePool: 1, dockerHost: door.dockerHost, callTimeoutMs: 300 });
    await door.set("stuck");
    await provider.prepare?.({ ahead: true }, signal);
    await door.set("open");
    await provider.prepare?.({ ahead: true }, signal);
    await filled(1);
    await provider.close?.(signal);
    expect(Object.values(await objects()).flat()).toEqual([]);
  }, 30_000);
});
