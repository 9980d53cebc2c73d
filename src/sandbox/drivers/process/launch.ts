import { type ChildProcess, spawn } from "node:child_process";
import { chmod, mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import launcher from "./launcher.sh" with { type: "text" };

export interface Launch {
  /** Directory of the sandbox; gets `launcher.sh` and `root/`. */
  readonly base: string;
  readonly runDir: string;
  readonly workspace: string;
  readonly binary: string;
  readonly uid: number;
  readonly cgroups: readonly string[];
  readonly pids: number;
  readonly hostname: string;
  /** File that takes what init and harnessd write. */
  readonly logPath: string;
}

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Starts the launcher in a session of its own; it outlives the daemon. */
export async function launch(o: Launch): Promise<ChildProcess> {
  const root = join(o.base, "root");
  await mkdir(root, { recursive: true, mode: 0o755 });
  const script = join(o.base, "launcher.sh");
  await writeFile(script, launcher, { mode: 0o700 });
  await chmod(script, 0o700);
  return await started(["/bin/sh", script], o.logPath, {
    PATH,
    DECO_ROOT: root,
    DECO_RUN: o.runDir,
    DECO_WORKSPACE: o.workspace,
    DECO_BINARY: o.binary,
    DECO_UID: String(o.uid),
    DECO_CGROUPS: o.cgroups.join(" "),
    DECO_PIDS: String(o.pids),
    DECO_HOSTNAME: o.hostname,
  });
}

/** Starts a program detached, with its output in a file and this environment alone. */
export async function started(
  [command, ...args]: readonly [string, ...string[]],
  logPath: string,
  env: Readonly<Record<string, string>>,
  cwd = "/",
): Promise<ChildProcess> {
  const log = await open(logPath, "a", 0o600);
  try {
    const child = spawn(command, args, {
      stdio: ["ignore", log.fd, log.fd],
      detached: true,
      env: { ...env },
      cwd,
    });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    // The daemon may leave while it runs.
    child.unref();
    return child;
  } finally {
    await log.close();
  }
}
