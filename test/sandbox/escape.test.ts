import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import {
  chmod,
  copyFile,
  link,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import { findCgroups } from "../../src/sandbox/drivers/process/cgroups.ts";
import { membersOf, pidNamespace } from "../../src/sandbox/drivers/process/proc.ts";
import { processProvider } from "../../src/sandbox/drivers/process/process-provider.ts";
import { harnessClient } from "../../src/sandbox/harness-client.ts";
import type { SandboxInfo, SandboxProvider } from "../../src/sandbox/provider.ts";
import { CACHE_DIR, quietLog, runInside, skipped } from "../suites/sandbox-provider-suite.ts";
import { madeAhead } from "../support/made-ahead.ts";

const SECRET = `secret-${Math.random().toString(36).slice(2)}`;
/** bun, as which the compiled harnessd can be started: an interpreter in every sandbox. */
const JS = "BUN_BE_BUN=1 $(command -v harnessd || echo /opt/deco/harnessd) -e";
const signal = AbortSignal.timeout(240_000);

/** A laptop with things to steal: readable by everyone, so that only the walls protect them. */
interface Victim {
  readonly home: string;
  readonly sshKey: string;
  readonly control: Server;
  readonly tcp: Server;
  readonly bystander: ChildProcess;
  visits: number;
}

let victim: Victim;

beforeAll(async () => {
  const home = await mkdtemp(join(tmpdir(), "deco-victim-"));
  await chmod(home, 0o755);
  await writeFile(join(home, "machine.json"), SECRET, { mode: 0o644 });
  const sshKey = join(homedir(), ".ssh", `deco-escape-${process.pid}`);
  await mkdir(join(homedir(), ".ssh"), { recursive: true, mode: 0o700 });
  await writeFile(sshKey, SECRET, { mode: 0o644 });
  const count = () => {
    victim.visits += 1;
  };
  const control = createServer(count);
  const tcp = createServer(count);
  await new Promise<void>((resolve) => control.listen(join(home, "control.sock"), resolve));
  await chmod(join(home, "control.sock"), 0o777);
  await new Promise<void>((resolve) => tcp.listen(0, "0.0.0.0", resolve));
  const bystander = spawn("sleep", ["600"], { stdio: "ignore", env: { STOLEN: SECRET } });
  victim = { home, sshKey, control, tcp, bystander, visits: 0 };
});

afterAll(async () => {
  victim.bystander.kill("SIGKILL");
  victim.control.close();
  victim.tcp.close();
  await rm(victim.home, { recursive: true });
  await rm(victim.sshKey);
});

interface Target {
  readonly name: string;
  readonly make: (o: { instanceId: string; runRoot: string }) => SandboxProvider;
  /** Host directory of /workspace. */
  readonly workspace: (info: SandboxInfo, instanceId: string) => Promise<string>;
}

function escapes(target: Target): void {
  describe(`what runs in a ${target.name} sandbox can't`, () => {
    const instanceId = `escape${process.pid}`;
    let runRoot: string;
    let provider: SandboxProvider;
    let info: SandboxInfo;
    const sh = async (command: string) =>
      (await runInside(provider, "jail", `{ ${command}\n} 2>&1; true`, signal)).output;

    beforeAll(async () => {
      runRoot = await mkdtemp(join(tmpdir(), "deco-e-"));
      provider = target.make({ instanceId, runRoot });
      const spec = { egress: "none", resources: { memoryMib: 256, pids: 64 } } as const;
      const ensure = async () =>
        await provider.ensure("jail", spec, { instanceId, onStage() {} }, signal);
      info = await ensure();
      const asked = (madeAhead.warmSandboxes ?? 0) > 0 && provider.name === "docker";
      if (!asked) return;
      // The one to be looked into is leased.
      await provider.remove("jail", signal);
      while (provider.madeAhead?.().ready === 0) await Bun.sleep(50);
      info = await ensure();
      expect(provider.madeAhead?.().leased).toBe(1);
    }, 60_000);

    afterAll(async () => {
      await sh(`ln -s ${victim.home} /workspace/link; ln -s ${victim.home} /run/deco/link`).catch(
        () => undefined,
      );
      const space = await pidNamespace(Number(info.id.split(".")[0]));
      await provider.remove("jail", signal);
      await provider.close?.(signal);
      expect(await readFile(join(victim.home, "machine.json"), "utf8")).toBe(SECRET);
      expect(await readdir(runRoot)).toEqual([]);
      expect(await findCgroups(instanceId)).toEqual([]);
      if (target.name === "process") expect(await membersOf(space ?? "")).toEqual([]);
      await rm(runRoot, { recursive: true });
    });

    test("read ~/.ssh, DECO_HOME, the run root or another program's home", async () => {
      const paths = [victim.sshKey, join(victim.home, "machine.json"), runRoot, homedir(), "/home"];
      const seen = await sh(
        paths.map((path) => `cat ${path}; ls ${path}`).join("\n") +
          `\nls -R / 2>/dev/null | grep -c deco-victim\ncat /etc/shadow /etc/subuid /etc/sudoers`,
      );
      expect(seen).not.toContain(SECRET);
      expect(seen).toContain("\n0\n");
      expect(seen).not.toContain("root:*");
      expect((await sh("ls -A /home")).trim()).toBe("agent");
    });

    test("see the daemon or any host process in /proc", async () => {
      const seen = await sh(
        `cat /proc/${process.pid}/environ /proc/${victim.bystander.pid}/environ
         grep -a -c ${SECRET.slice(0, 10)} /proc/[0-9]*/environ | grep -v ':0$'
         for p in /proc/[0-9]*; do readlink $p/root $p/cwd $p/exe; done; ls -d /proc/[0-9]* | wc -l`,
      );
      expect(seen).not.toContain(SECRET);
      expect(seen).not.toContain(import.meta.dir);
      expect(Number(seen.trim().split("\n").at(-1))).toBeLessThan(15);
    });

    test("connect to the control socket, to docker.sock, or to a port of the host", async () => {
      const address = victim.tcp.address();
      const port = typeof address === "object" ? address?.port : undefined;
      const to = [
        { path: join(victim.home, "control.sock") },
        { path: "/var/run/docker.sock" },
        { path: "/run/docker.sock" },
        { host: "127.0.0.1", port },
        { host: "172.17.0.1", port },
        { host: "10.0.0.1", port: 80 },
      ];
      const code = `for (const o of ${JSON.stringify(to)}) await new Promise((done) => {
        const s = require("net").connect(o);
        const end = (what) => { console.log(what); s.destroy(); done(); };
        s.on("connect", () => end("CONNECTED")).on("error", (e) => end("refused"));
        setTimeout(() => end("silent"), 1000);
      })`;
      const seen = await sh(`${JS} '${code}'`);
      expect(seen).toContain("refused");
      expect(seen).not.toContain("CONNECTED");
      expect(victim.visits).toBe(0);
    });

    test("kill a host process", async () => {
      const pid = victim.bystander.pid;
      await sh(`kill -9 ${pid}; kill -9 ${process.pid}; kill -9 -${pid}`);
      expect(victim.bystander.exitCode).toBeNull();
      expect(victim.bystander.signalCode).toBeNull();
    });

    test("gain capabilities, mount, or start a user namespace", async () => {
      const seen = await sh(
        `grep -E 'Cap|NoNewPrivs' /proc/self/status
         mount -t tmpfs none /tmp && echo MOUNTED; unshare -Urm true && echo UNSHARED
         chroot / true && echo CHROOTED; echo x >/proc/sys/kernel/core_pattern && echo WROTE
         mknod /tmp/sda b 8 0 && echo NODE; chown 0 /workspace && echo OWNED
         ls /dev | sed "s/^/dev /"`,
      );
      for (const name of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
        expect(seen).toMatch(new RegExp(`${name}:\\s0000000000000000`));
      }
      expect(seen).toMatch(/NoNewPrivs:\s1/);
      expect(seen).not.toMatch(/MOUNTED|UNSHARED|CHROOTED|WROTE|NODE|OWNED/);
      expect(seen).not.toMatch(/dev (vda|sda|mem|kmsg|loop|fuse)/);
    });

    test("become root by a setuid program", async () => {
      const shell = join(await target.workspace(info, instanceId), "rootshell");
      await copyFile("/usr/bin/id", shell);
      await chmod(shell, 0o4755);
      const seen = await sh("/workspace/rootshell; id");
      expect(seen).not.toMatch(/euid=0|uid=0/);
      expect(seen).toMatch(/uid=[1-9]/);
    });

    test("write to system directories", async () => {
      const seen = await sh(
        "for d in / /bin /usr /usr/bin /lib /etc /dev /opt /var /proc/sys; do : >$d/x && echo WROTE; done",
      );
      expect(seen).not.toContain("WROTE");
    });

    test("fill the host's disk through the run directory, or take its sockets away", async () => {
      const seen = await sh(
        `for n in . x token harnessd.sock model.sock; do
           head -c 1000000 /dev/zero >/run/deco/$n && echo WROTE $n; done
         mkdir /run/deco/d && echo MADE; ln -s / /run/deco/l && echo LINKED
         rm -rf /run/deco/harnessd.sock; mv /run/deco/harnessd.sock /run/deco/y
         chmod 777 /run/deco && echo OPENED`,
      );
      expect(seen).not.toMatch(/WROTE|MADE|LINKED|OPENED/);
      expect(await readdir(info.runDir)).toEqual(["harnessd.sock"]);
    });

    test("lead the daemon to another socket, or to a file, in the place of harnessd's", async () => {
      const socket = join(info.runDir, "harnessd.sock");
      const kept = `${socket}.kept`;
      const impostor = createServer(() => void (victim.visits += 1));
      const swaps = [
        () => symlink(join(victim.home, "control.sock"), socket),
        () => link(join(victim.home, "control.sock"), socket),
        () => writeFile(socket, ""),
        () => mkdir(socket),
        () => new Promise<void>((resolve) => impostor.listen(socket, resolve)),
      ];
      const client = harnessClient(await provider.endpoint("jail", signal));
      for (const swap of swaps) {
        await rename(socket, kept);
        await swap();
        const refused = await client.health(signal).catch((thrown: unknown) => thrown);
        // Closing removes its socket, which must not be the real one.
        if (impostor.listening) await new Promise((resolve) => impostor.close(resolve));
        await rm(socket, { recursive: true, force: true });
        await rename(kept, socket);
        expect(refused).toMatchObject({ code: "harness_unreachable" });
      }
      expect(victim.visits).toBe(0);
      await client.health(signal);
    });

    test("use more memory than its limit", async () => {
      const client = harnessClient(await provider.endpoint("jail", signal));
      const bomb = "const a = []; for (;;) console.log(a.push(Buffer.alloc(8 << 20, 1)) * 8)";
      const { runId } = await client.createRun({ prompt: `${JS} '${bomb}'` }, signal);
      let output = "";
      const ended = (async () => {
        for await (const event of client.events(runId, {}, signal)) {
          if (event.type === "tool.output.delta") output += String(event.payload["content"]);
        }
      })();
      // The kernel ends it, or lets it crawl at the limit; the daemon's kill ends it either way.
      await Promise.race([ended, Bun.sleep(5_000)]);
      expect(await provider.killProcesses("jail", signal)).toBe(0);
      await ended;
      const mebibytes = output.match(/^\d+$/gm)?.map(Number) ?? [];
      expect(Math.max(...mebibytes)).toBeGreaterThan(50);
      expect(Math.max(...mebibytes)).toBeLessThan(256);
      expect(await sh("echo alive")).toBe("alive\n");
    });

    test("fork without end: the limit holds, and everything is ended after it", async () => {
      const client = harnessClient(await provider.endpoint("jail", signal));
      const bomb = "b() { b | b & }; b; sleep 60";
      const { runId } = await client.createRun({ prompt: bomb, harness: "shell" }, signal);
      let most = 0;
      for (let i = 0; i < 50 && most < 20; i++) {
        most = Math.max(most, await provider.processesLeft("jail", signal));
      }
      expect(most).toBeGreaterThan(5);
      expect(most).toBeLessThanOrEqual(64);
      expect(await provider.killProcesses("jail", signal)).toBe(0);
      await client.cancel(runId, signal).catch(() => undefined);
      for await (const event of client.events(runId, {}, signal)) void event;
      expect(await sh("echo alive")).toBe("alive\n");
    });
  });
}

const docker = dockerProvider({
  instanceId: "p",
  runRoot: "/tmp",
  cacheDir: CACHE_DIR,
  log: quietLog,
});
const dockerProbe = await docker.probe(AbortSignal.timeout(20_000));
const plain = processProvider({
  instanceId: "p",
  runRoot: "/tmp",
  cacheDir: CACHE_DIR,
  log: quietLog,
});
const processProbe = await plain.probe(AbortSignal.timeout(20_000));

if (!processProbe.confined) {
  skipped("escape from process", processProbe.reason ?? "not confined", "run as root on Linux");
} else {
  escapes({
    name: "process",
    make: (o) => processProvider({ ...o, cacheDir: CACHE_DIR, log: quietLog }),
    workspace: async (info) => join(info.runDir, "..", "workspace"),
  });
}

if (!dockerProbe.available || process.getuid?.() !== 0) {
  skipped("escape from docker", dockerProbe.reason ?? "not root", "run `npm run engines` as root");
} else {
  escapes({
    name: "docker",
    make: (o) => dockerProvider({ ...o, ...madeAhead, cacheDir: CACHE_DIR, log: quietLog }),
    workspace: async (info) => {
      const found = await new Docker().getContainer(info.id).inspect();
      return found.Mounts.find((mount) => mount.Destination === "/workspace")?.Source ?? "";
    },
  });
}
