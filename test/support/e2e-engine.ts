import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

/** A Docker engine of the test's own, to be ended at any moment without harm to others. */
export interface OwnEngine extends AsyncDisposable {
  /** `unix://…`, for --docker-host. */
  readonly host: string;
  start(): Promise<void>;
  /** Ends it as a crash does: SIGKILL, by its pid. */
  kill(): Promise<void>;
  /** Ends it as an update of the engine does: SIGTERM. */
  stop(): Promise<void>;
  /** Where it keeps images, containers and volumes. */
  readonly dataRoot: string;
  docker(...args: string[]): Promise<string>;
}

export interface OwnEngineOptions {
  /** Containers outlive it. */
  readonly liveRestore?: boolean;
  /** Its data are on a disk of so many MB. */
  readonly diskMb?: number;
}

const DOCKERD = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"];

const UNSHARE = "/usr/bin/unshare";

/** Whether one can be started here: by root alone. */
export const canOwnEngine =
  process.getuid?.() === 0 && existsSync(UNSHARE) && DOCKERD.some((path) => existsSync(path));

/** Private socket, data, state, pid file and network: it touches nothing of this machine's. */
export async function ownEngine(options: OwnEngineOptions = {}): Promise<OwnEngine> {
  const dir = await mkdtemp(join(tmpdir(), "deco-eng-"));
  const dataRoot = join(dir, "data");
  if (options.diskMb !== undefined) await mountSmall(dataRoot, options.diskMb);
  const host = `unix://${dir}/d.sock`;
  const config = join(dir, "config.json");
  await writeFile(config, JSON.stringify({ "live-restore": options.liveRestore === true }));
  let child: ChildProcess | undefined;
  const docker = async (...args: string[]) => {
    const asked = promisify(execFile)("docker", ["-H", host, ...args], { timeout: 20_000 });
    return (await asked).stdout;
  };
  const answers = () =>
    docker("version").then(
      () => true,
      () => false,
    );
  const end = async (signal: NodeJS.Signals) => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
    // A dockerd that was killed can't end the containerd that it started.
    await endContainerd(dir);
  };
  const engine: OwnEngine = {
    host,
    dataRoot,
    docker,
    async start() {
      await rm(join(dir, "pid"), { force: true });
      const state = ["--data-root", dataRoot, "--exec-root", join(dir, "exec")];
      const own = ["--pidfile", join(dir, "pid"), "--config-file", config, "-H", host];
      const alone = ["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"];
      const dockerd = DOCKERD.find((path) => existsSync(path)) ?? "dockerd";
      // In a network of its own: without a bridge it would remove docker0, which is the machine's.
      child = spawn(UNSHARE, ["--net", "--", dockerd, ...state, ...own, ...alone], {
        stdio: "ignore",
        detached: true,
      });
      await until(answers);
    },
    kill: () => end("SIGKILL"),
    stop: () => end("SIGTERM"),
    async [Symbol.asyncDispose]() {
      if (child?.exitCode !== null || child.signalCode !== null) await engine.start();
      const left = (await docker("ps", "-aq")).split("\n").filter((id) => id !== "");
      if (left.length > 0) await docker("rm", "-f", "-v", ...left);
      await end("SIGTERM");
      await endShims(dir);
      // A dockerd that was killed leaves its data directory mounted on itself.
      while (await unmounted(dataRoot)) continue;
      await rm(dir, { recursive: true, force: true });
    },
  };
  await engine.start();
  return engine;
}

async function endContainerd(dir: string): Promise<void> {
  const pidFile = join(dir, "exec/containerd/containerd.pid");
  const text = await readFile(pidFile, "utf8").catch(() => "");
  const commandLine = () => readFile(`/proc/${text.trim()}/cmdline`, "utf8").catch(() => "");
  // Pids are used again: only the one that was started with this directory is ours.
  if ((await commandLine()).includes(dir)) process.kill(Number(text), "SIGKILL");
  await until(async () => !(await commandLine()).includes(dir));
  // Where nobody reaps it, the next dockerd would wait for its ghost.
  await rm(pidFile, { force: true });
}

/** A shim that a killed engine had just started is known to no later one; it names its engine's socket. */
async function endShims(dir: string): Promise<void> {
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (commandLine.includes("containerd-shim") && commandLine.includes(`${dir}/exec/`)) {
      process.kill(Number(pid), "SIGKILL");
    }
  }
}

/** A disk in memory that is soon full; `umount` takes it away. */
export async function mountSmall(path: string, megabytes: number): Promise<void> {
  await mkdir(path, { recursive: true });
  const size = `size=${megabytes}m`;
  await promisify(execFile)("mount", ["-t", "tmpfs", "-o", size, "deco-test", path]);
}

export function unmounted(path: string): Promise<boolean> {
  return promisify(execFile)("umount", [path]).then(
    () => true,
    () => false,
  );
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error("dockerd did not come to that within 30 s");
    await sleep(50);
  }
}
