import { describe, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { runInside } from "../suites/sandbox-provider-suite.ts";
import { dockerLab } from "../support/docker-lab.ts";

const signal = AbortSignal.timeout(120_000);
const { available, docker, instanceId, context, make, objects } = await dockerLab("net");
const network = `deco-${instanceId}`;

/** Answers on port 4711 until the run ends. */
const SERVE = "while :; do echo hello | nc -l -p 4711; done & sleep 0.3;";

describe.skipIf(!available)("network of docker sandboxes", () => {
  test("sandboxes don't reach each other, and nothing of theirs is published (LESSONS 31)", async () => {
    const provider = make();
    const [one, two] = await Promise.all([
      provider.ensure("one", {}, context, signal),
      provider.ensure("two", {}, context, signal),
    ]);
    expect([one.url, two.url]).toEqual([undefined, undefined]);
    const { NetworkSettings } = await docker.getContainer(two.id).inspect();
    expect(Object.values(NetworkSettings.Ports).filter(Boolean)).toEqual([]);
    const address = NetworkSettings.Networks[network]?.IPAddress;
    expect(address).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
    const reach = `nc -w 2 ${address} 4711 </dev/null`;
    const ask = runInside(provider, "one", `sleep 0.5; ${reach} || echo unreached`, signal);
    const own = await runInside(provider, "two", `${SERVE} ${reach}; sleep 3`, signal);
    expect(own.output).toBe("hello\n");
    expect((await ask).output).toEndWith("unreached\n");
    await Promise.all(["one", "two"].map((handle) => provider.remove(handle, signal)));
  }, 30_000);

  test("the network stays behind the last sandbox for the next, and goes with the daemon", async () => {
    const provider = make();
    await provider.ensure("last", {}, context, signal);
    await provider.remove("last", signal);
    expect((await objects()).networks).toEqual([`network ${network}`]);
    const before = await docker.getNetwork(network).inspect();
    await provider.ensure("next", {}, context, signal);
    await provider.close?.(signal);
    expect((await docker.getNetwork(network).inspect()).Id).toBe(before.Id);
    await provider.remove("next", signal);
    await provider.close?.(signal);
    expect((await objects()).networks).toEqual([]);
  }, 30_000);

  test("a network that was pruned is made again, and a stopped sandbox put back into it", async () => {
    const provider = make();
    const made = await provider.ensure("pruned", {}, context, signal);
    await docker.getContainer(made.id).kill();
    await docker.getNetwork(network).remove();
    const again = await provider.ensure("pruned", {}, context, signal);
    expect(again).toMatchObject({ id: made.id, status: "running" });
    const look = await runInside(provider, "pruned", "ls /sys/class/net", signal);
    expect(look.output.split("\n")).toContain("eth0");
    await provider.remove("pruned", signal);
    await docker.getNetwork(network).remove();
    await provider.ensure("pruned", {}, context, signal);
    await provider.remove("pruned", signal);
  }, 30_000);

  test("a foreign network of the name is neither used nor removed", async () => {
    await make().close?.(signal);
    const foreign = await docker.createNetwork({ Name: network });
    try {
      const work = make().ensure("mine", {}, context, signal);
      await expect(work).rejects.toMatchObject({ code: "sandbox_failed" });
      await make().close?.(signal);
      expect((await foreign.inspect()).Name).toBe(network);
      expect((await objects()).sandboxes).toEqual([]);
    } finally {
      await foreign.remove();
    }
  }, 30_000);

  test("without egress localhost has its name, for a wiped run directory as well", async () => {
    const provider = make();
    const made = await provider.ensure("dark", { egress: "none" }, context, signal);
    const reach = `${SERVE} nc -w 2 localhost 4711 </dev/null; cat /sys/class/net/*/address`;
    const loopback = "hello\n00:00:00:00:00:00\n";
    expect((await runInside(provider, "dark", reach, signal)).output).toStartWith(loopback);
    await rm(dirname(made.runDir), { recursive: true });
    await provider.ensure("dark", { egress: "none" }, context, signal);
    expect((await runInside(provider, "dark", reach, signal)).output).toStartWith(loopback);
    await provider.remove("dark", signal);
  }, 30_000);

  test("where sockets don't cross into the engine, harnessd has a port on 127.0.0.1", async () => {
    const provider = make({ modelTransport: "gateway" });
    const info = await provider.ensure("desktop", {}, context, signal);
    const { NetworkSettings } = await docker.getContainer(info.id).inspect();
    const [port] = NetworkSettings.Ports["8080/tcp"] ?? [];
    expect(port?.HostIp).toBe("127.0.0.1");
    expect(info.url).toBe(`http://127.0.0.1:${port?.HostPort}`);
    const endpoint = await provider.endpoint("desktop", signal);
    expect(endpoint).toEqual({ url: `${info.url}`, token: endpoint.token });
    expect((await runInside(provider, "desktop", "echo by port", signal)).output).toBe("by port\n");
    await provider.remove("desktop", signal);
  }, 30_000);
});
