import { execFile } from "node:child_process";
import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

/** What a program could leave behind on a Linux machine, as names to compare. */
export interface Snapshot {
  readonly processes: ReadonlySet<string>;
  readonly containers: ReadonlySet<string>;
  readonly volumes: ReadonlySet<string>;
  readonly networks: ReadonlySet<string>;
  readonly sockets: ReadonlySet<string>;
  readonly temporary: ReadonlySet<string>;
}

/** TMPDIR of the programs of one home (see run-deco.ts): what stays in it was left behind. */
export function temporaryOf(home: string): string {
  return join(home, "tmp");
}

/** Only what carries the home's path counts: other programs of this machine come and go beside us. */
export async function takeSnapshot(mark: string): Promise<Snapshot> {
  const [processes, containers, volumes, networks, sockets, temporary] = await Promise.all([
    processesOf(mark),
    containersOf(mark),
    namedAs(mark, ["volume", "ls", "-q"]),
    namedAs(mark, ["network", "ls", "--format", "{{.Name}}"]),
    unixSockets(mark),
    readdir(temporaryOf(mark)).catch(() => []),
  ]);
  return {
    processes: new Set(processes),
    containers: new Set(containers),
    volumes: new Set(volumes),
    networks: new Set(networks),
    sockets: new Set(sockets),
    temporary: new Set(temporary),
  };
}

/** What is there now and was not before, as lines such as `processes: 4711 sleep 60`. */
export async function leftovers(mark: string, before: Snapshot): Promise<string[]> {
  const after = await takeSnapshot(mark);
  const kinds = ["processes", "containers", "volumes", "networks", "sockets", "temporary"] as const;
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

/** A sandbox mounts its run directory, which lies below the home; a pause has only its name. */
async function containersOf(home: string): Promise<string[]> {
  const isOurs = await ownNames(home);
  const format = "{{.ID}} {{.Names}} {{.Mounts}}";
  const lines = await docker(["ps", "-a", "--no-trunc", "--format", format]);
  return lines.filter((line) => line.includes(home) || isOurs(line.split(" ")[1] ?? ""));
}

async function namedAs(home: string, list: string[]): Promise<string[]> {
  return (await docker(list)).filter(await ownNames(home));
}

/** Pauses, volumes and networks name the instance of their home, not its path. */
async function ownNames(home: string): Promise<(name: string) => boolean> {
  const text = await readFile(join(home, "state", "instance.json"), "utf8").catch(() => "");
  const instance = /"instanceId":\s*"([a-z0-9]+)"/.exec(text)?.[1];
  return (name) =>
    instance !== undefined && `${name}-`.startsWith(`deco-${instance.slice(0, 12)}-`);
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
