import { createHash } from "node:crypto";
import { chmod, lstat, mkdir, rmdir } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { DecoError } from "../protocol/errors.ts";

/** Every file and folder of one home. docs/files.md lists what is in each. */
export interface DaemonPaths {
  /** Settings, written by the user. */
  readonly config: string;
  /** Identity, session, journal: lost only by hand. */
  readonly state: string;
  /** The embedded hub's store. */
  readonly data: string;
  /** May be deleted at any time. */
  readonly cache: string;
  /** Sockets and run directories; short enough for unix socket paths, gone after a reboot. */
  readonly runtime: string;
  readonly configFile: string;
  readonly machineFile: string;
  readonly sessionFile: string;
  readonly linkFile: string;
  readonly providerFile: string;
  readonly instanceFile: string;
  readonly idleFile: string;
  readonly enginesFile: string;
  readonly lockFile: string;
  readonly holderFile: string;
  readonly journalFile: string;
  readonly controlSocket: string;
  /** Parent of the directory that each sandbox gets. */
  readonly runRoot: string;
}

/** What the paths depend on; tests give their own. */
export interface PathsOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home?: string;
  readonly platform?: NodeJS.Platform;
  readonly tmp?: string;
  readonly uid?: number;
}

/** `sun_path` of macOS has 104 bytes with its NUL; what hangs below the runtime folder takes 48. */
export const SOCKET_PATH_BYTES = 104;
const RUNTIME_BYTES = SOCKET_PATH_BYTES - 48;

/** Works out where everything lives: `DECO_HOME`, else XDG (macOS: below ~/Library). Touches no disk. */
export function resolvePaths(options: PathsOptions): DaemonPaths {
  const roots = rootsOf(options);
  const runtime = shortRuntime(roots, options);
  return {
    ...roots,
    runtime,
    configFile: join(roots.config, "config.json"),
    machineFile: join(roots.state, "machine.json"),
    sessionFile: join(roots.state, "session.json"),
    linkFile: join(roots.state, "link.json"),
    providerFile: join(roots.state, "provider.json"),
    instanceFile: join(roots.state, "instance.json"),
    idleFile: join(roots.state, "idle.json"),
    enginesFile: join(roots.state, "engines.json"),
    lockFile: join(roots.state, "lock.db"),
    holderFile: join(roots.state, "holder.json"),
    journalFile: join(roots.state, "journal.db"),
    controlSocket: join(runtime, "control.sock"),
    runRoot: join(runtime, "s"),
  };
}

/**
 * Makes the folders, private to this user.
 *
 * @throws DecoError `storage_failed` when one belongs to somebody else, is a link or can't be made.
 */
export async function makePaths(paths: DaemonPaths): Promise<void> {
  for (const dir of [paths.config, paths.state, paths.data, paths.cache]) {
    await mkdir(dir, { recursive: true, mode: 0o700 }).catch(refuse(dir));
  }
  await privateDir(paths.runtime);
  await privateDir(paths.runRoot);
}

/**
 * Takes away the short runtime folder of a deep home, where nothing is left in it: nobody would ever
 * look for it. Only for who holds the home's lock.
 */
export async function removeShortRuntime(paths: DaemonPaths): Promise<void> {
  if (!SHORT_NAME.test(basename(paths.runtime))) return;
  // What still holds something stays, for the next start.
  for (const dir of [paths.runRoot, paths.runtime]) await rmdir(dir).catch(() => undefined);
}

interface Roots {
  readonly config: string;
  readonly state: string;
  readonly data: string;
  readonly cache: string;
  readonly runtime: string;
}

function rootsOf(options: PathsOptions): Roots {
  const { env, home = homedir(), platform = process.platform } = options;
  const one = env["DECO_HOME"];
  if (one) {
    const root = resolve(one);
    return {
      config: root,
      state: join(root, "state"),
      data: join(root, "data"),
      cache: join(root, "cache"),
      runtime: join(root, "run"),
    };
  }
  if (platform === "darwin") return macRoots(home);
  const xdg = (name: string, fallback: string) =>
    join(absolute(env[name]) ?? join(home, fallback), "deco-link");
  const state = xdg("XDG_STATE_HOME", ".local/state");
  const runtime = absolute(env["XDG_RUNTIME_DIR"]);
  return {
    config: xdg("XDG_CONFIG_HOME", ".config"),
    state,
    data: xdg("XDG_DATA_HOME", ".local/share"),
    cache: xdg("XDG_CACHE_HOME", ".cache"),
    runtime: runtime === undefined ? join(state, "run") : join(runtime, "deco-link"),
  };
}

function macRoots(home: string): Roots {
  const library = join(home, "Library");
  return {
    config: join(library, "Preferences", "deco-link"),
    state: join(library, "Application Support", "deco-link", "state"),
    data: join(library, "Application Support", "deco-link", "data"),
    cache: join(library, "Caches", "deco-link"),
    runtime: join(library, "Caches", "deco-link", "run"),
  };
}

/** XDG: a relative path is to be ignored. */
function absolute(path: string | undefined): string | undefined {
  return path?.startsWith("/") ? path : undefined;
}

const SHORT_NAME = /^deco-\d+-[0-9a-f]{12}$/;

/** A deep home would break unix sockets: then a short folder, named after the home's hash. */
function shortRuntime(roots: Roots, options: PathsOptions): string {
  if (Buffer.byteLength(roots.runtime) <= RUNTIME_BYTES) return roots.runtime;
  const uid = options.uid ?? process.getuid?.() ?? 0;
  const hash = createHash("sha256").update(roots.state).digest("hex").slice(0, 12);
  const name = `deco-${uid}-${hash}`;
  const inTmp = join(options.tmp ?? tmpdir(), name);
  return Buffer.byteLength(inTmp) <= RUNTIME_BYTES ? inTmp : join("/tmp", name);
}

/** In a world-writable parent somebody else may have made it first: owner and kind are checked. */
async function privateDir(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 }).catch(refuse(dir));
  const found = await lstat(dir).catch(refuse(dir));
  const uid = process.getuid?.();
  if (!found.isDirectory() || (uid !== undefined && found.uid !== uid)) {
    throw new DecoError("storage_failed", `${dir} is not a folder of this user`, {
      fix: `Remove ${dir}, or set DECO_HOME to a shorter path.`,
    });
  }
  if ((found.mode & 0o077) !== 0) await chmod(dir, 0o700);
}

function refuse(dir: string) {
  return (cause: unknown): never => {
    throw new DecoError("storage_failed", `can't make ${dir}: ${String(cause)}`, { cause });
  };
}
