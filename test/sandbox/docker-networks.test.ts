import { afterAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import { harnessClient } from "../../src/sandbox/harness-client.ts";
import type { EnsureContext } from "../../src/sandbox/provider.ts";
import type { ResolvedSpec } from "../../src/sandbox/sandbox-spec.ts";
import { CACHE_DIR, quietLog, runInside } from "../suites/sandbox-provider-suite.ts";
import { dockerAnswers, isSkipped } from "../support/engines.ts";

const signal = AbortSignal.timeout(240_000);
const docker = new Docker();

const inThread = (threadKey: string, more: ResolvedSpec = {}, name?: string): ResolvedSpec => ({
  ...more,
  network: { thread: true, ...(name === undefined ? {} : { name }) },
  facts: { threadKey },
});

if (!isSkipped("Docker engine", await dockerAnswers())) {
  describe("ports and networks of threads", () => {
    const instanceId = `net${Math.random().toString(16).slice(2, 12)}`;
    const make = async () => {
      const runRoot = await mkdtemp(join(tmpdir(), "deco-s-"));
      const provider = dockerProvider({ instanceId, runRoot, cacheDir: CACHE_DIR, log: quietLog });
      return { runRoot, provider };
    };
    const ready = make();
    const context: EnsureContext = { instanceId, onStage() {} };
    const filters = { label: [`dev.deco-link.instance=${instanceId}`] };
    const networks = async () => {
      const found = await docker.listNetworks({ filters: JSON.stringify(filters) });
      return found.map(({ Name }) => Name).toSorted();
    };
    const inside = async (handle: string, command: string) => {
      const { output } = await runInside(
        (await ready).provider,
        handle,
        `{ ${command}; } 2>/dev/null`,
        signal,
      );
      return output.trim();
    };
    const serve = async (handle: string, port: number, text: string) => {
      const client = harnessClient(await (await ready).provider.endpoint(handle, signal));
      const prompt = `mkdir -p /workspace/w && echo ${text} >/workspace/w/index.html && busybox httpd -f -p ${port} -h /workspace/w`;
      await client.createRun({ prompt }, signal);
      await inside(handle, `until wget -q -O - http://127.0.0.1:${port}/; do sleep 0.1; done`);
    };

    afterAll(async () => {
      const { provider, runRoot } = await ready;
      for (const { handle } of await provider.list(signal)) await provider.remove(handle, signal);
      await provider.close?.(signal);
      await rm(runRoot, { recursive: true });
      expect(await docker.listContainers({ all: true, filters })).toEqual([]);
      expect(await networks()).toEqual([]);
    });

    test("ports that were asked for are on 127.0.0.1 at a port of the engine's choice, and told", async () => {
      const { provider } = await ready;
      const info = await provider.ensure("web", { ports: [8080, 3000] }, context, signal);
      expect(Object.keys(info.ports ?? {})).toEqual(["3000", "8080"]);
      // 8080 is a port like another where harnessd is reached by its socket.
      expect(info.url).toBeUndefined();
      await serve("web", 3000, "three");
      const answer = await fetch(`http://127.0.0.1:${info.ports?.["3000"]}/`);
      expect((await answer.text()).trim()).toBe("three");
      const { NetworkSettings } = await docker.getContainer(info.id).inspect();
      const bound = Object.values(NetworkSettings.Ports).flat();
      expect(bound.map(({ HostIp }) => HostIp)).toEqual(["127.0.0.1", "127.0.0.1"]);
      expect((await provider.inspect("web", signal))?.ports).toEqual(info.ports);
      await provider.remove("web", signal);
    }, 60_000);

    test("sandboxes of one thread reach each other by name, those of another thread do not", async () => {
      const { provider } = await ready;
      const open = await provider.ensure("one", inThread("aaaa", {}, "db"), context, signal);
      await provider.ensure("two", inThread("aaaa"), context, signal);
      await provider.ensure("shut", inThread("aaaa", { egress: "none" }, "app"), context, signal);
      await provider.ensure("other", inThread("bbbb"), context, signal);
      await provider.ensure("plain", {}, context, signal);
      await serve("one", 5000, "hello");
      for (const [from, name] of [
        ["two", "db"],
        ["two", "one"],
        ["shut", "db"],
      ] as const) {
        expect(await inside(from, `wget -q -O - http://${name}:5000/`)).toBe("hello");
      }
      const { NetworkSettings } = await docker.getContainer(open.id).inspect();
      const addresses = Object.values(NetworkSettings.Networks).map(({ IPAddress }) => IPAddress);
      expect(addresses).toHaveLength(2);
      for (const from of ["other", "plain"]) {
        expect(await inside(from, "wget -q -O - http://db:5000/ || echo no")).toBe("no");
        for (const address of addresses) {
          const command = `timeout 2 wget -q -O - http://${address}:5000/ || echo no`;
          expect(await inside(from, command)).toBe("no");
        }
      }
    }, 90_000);

    test("a thread's network is no way out: not to this machine, not through its name servers", async () => {
      const server = createServer((_request, response) => response.end("the host"));
      await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
      const bound = server.address();
      const port = typeof bound === "object" ? (bound?.port ?? 0) : 0;
      try {
        const found = await inside("shut", "ip -4 addr show scope global | awk '/inet/{print $2}'");
        const base = found.split("/")[0]?.split(".").slice(0, 3).join(".");
        const ask = (address: string) =>
          inside("shut", `timeout 2 wget -q -O - http://${address}:${port}/ || echo no`);
        expect(await ask(`${base}.1`)).toBe("no");
        const gateways = await inside("two", "ip route | awk '/default/{print $3}'");
        // The same question has an answer where there is egress.
        expect(
          await inside("two", `timeout 2 wget -q -O - http://${gateways}:${port}/ || echo no`),
        ).toBe("the host");
        expect(await ask(gateways)).toBe("no");
        const names = await inside(
          "shut",
          "timeout 5 nslookup example.org >/dev/null && echo yes || echo no",
        );
        expect(names).toBe("no");
      } finally {
        await new Promise((resolve) => server.close(resolve));
      }
    }, 60_000);

    test("a sandbox that stopped finds its thread again, also when its network was pruned", async () => {
      const { provider } = await ready;
      const key = "cccc";
      const first = await provider.ensure("late", inThread(key), context, signal);
      const shut = await provider.ensure(
        "later",
        inThread(key, { egress: "none" }),
        context,
        signal,
      );
      for (const { id } of [first, shut]) await docker.getContainer(id).kill();
      await docker.getNetwork(`deco-${instanceId.slice(0, 12)}-t-${key}`).remove();
      await provider.ensure("late", inThread(key), context, signal);
      await provider.ensure("later", inThread(key, { egress: "none" }), context, signal);
      await serve("late", 5001, "again");
      expect(await inside("later", "wget -q -O - http://late:5001/")).toBe("again");
    }, 60_000);

    test("a thread's network goes with the last sandbox of the thread, and not before", async () => {
      const { provider } = await ready;
      const name = `deco-${instanceId.slice(0, 12)}-t-aaaa`;
      await provider.remove("one", signal);
      await provider.remove("two", signal);
      expect(await networks()).toContain(name);
      await provider.remove("shut", signal);
      expect(await networks()).not.toContain(name);
      expect(await networks()).toContain(`deco-${instanceId.slice(0, 12)}-t-bbbb`);
    }, 60_000);

    test("a sandbox that the engine refuses leaves no network of its thread behind", async () => {
      const { provider } = await ready;
      const tooMuch = { resources: { cpus: 1024 } };
      for (const egress of ["none", "open"] as const) {
        const spec = inThread("eeee", { ...tooMuch, egress });
        await expect(provider.ensure("big", spec, context, signal)).rejects.toThrow("CPUs");
        expect((await networks()).filter((name) => name.endsWith("-t-eeee"))).toEqual([]);
      }
    }, 60_000);

    test("a foreign network of that name is left alone, and told with the way out", async () => {
      const { provider } = await ready;
      const Name = `deco-${instanceId.slice(0, 12)}-t-dddd`;
      const foreign = await docker.createNetwork({ Name });
      try {
        const made = provider.ensure("clash", inThread("dddd"), context, signal);
        await expect(made).rejects.toMatchObject({
          code: "sandbox_failed",
          fix: `Remove it: docker network rm ${Name}`,
        });
        expect(await provider.inspect("clash", signal)).toBeUndefined();
      } finally {
        await foreign.remove();
      }
    }, 60_000);
  });
}
