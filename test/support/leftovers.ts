import { execFile } from "node:child_process";
import { readdir, readFile, readlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { promisify } from "node:util";

/** What a program could leave behind on a Linux machine, as names to compare. */
export interface Snapshot {
  readonly processes: ReadonlySet<string>;
  readonly containers: ReadonlySet<string>;
  readonly volumes: ReadonlySet<string>;
  readonly sockets: ReadonlySet<string>;
  readonly temporary: ReadonlySet<string>;
}

/** Only what carries our mark counts: other tests of this machine come and go beside us. */
export async function takeSnapshot(mark: string): Promise<Snapshot> {
  const [processes, containers, volumes, sockets, temporary] = await Promise.all([
    processesOf(mark),
    docker(["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Labels}}"]),
    docker(["volume", "ls", "-q"]),
    unixSockets(mark),
    readdir(tmpdir()),
  ]);
  return {
    processes: new Set(processes),
    containers: new Set(containers),
    volumes: new Set(volumes),
    sockets: new Set(sockets),
    temporary: new Set(temporary.filter((name) => /^(deco|harness)/.test(name))),
  };
}

/** What is there now and was not before, as lines such as `processes: 4711 sleep 60`. */
export async function leftovers(mark: string, before: Snapshot): Promise<string[]> {
  const after = await takeSnapshot(mark);
  const kinds = ["processes", "containers", "volumes", "sockets", "temporary"] as const;
  return kinds.flatMap((kind) =>
    [...after[kind]].filter((name) => !before[kind].has(name)).map((name) => `${kind}: ${name}`),
  );
}

/** Processes that have our home in their arguments, environment, working directory or root. */
async function processesOf(mark: string): Promise<string[]> {
  const pids = (await readdir("/proc").catch(() => [])).filter((name) => /^\d+$/.test(name));
  const found = pids.map(async (pid) => {
    if (pid === String(process.pid)) return [];
    const read = (name: string) => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
    const link = (name: string) => readlink(`/proc/${pid}/${name}`).catch(() => "");
    const [line, env, cwd, root] = await Promise.all([
      read("cmdline"),
      read("environ"),
      link("cwd"),
      link("root"),
    ]);
    const ours = [line, env, cwd, root].some((text) => text.includes(mark));
    return ours ? [`${pid} ${line.replaceAll("\0", " ").trim()}`] : [];
  });
  return (await Promise.all(found)).flat();
}

async function unixSockets(mark: string): Promise<string[]> {
  const table = await readFile("/proc/net/unix", "utf8").catch(() => "");
  return table.split("\n").filter((line) => line.includes(mark));
}

async function docker(args: string[]): Promise<string[]> {
  const { stdout } = await promisify(execFile)("docker", args, { timeout: 10_000 }).catch(() => ({
    stdout: "",
  }));
  return stdout.split("\n").filter((line) => line !== "");
}
