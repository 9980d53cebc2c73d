import { realpathSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, relative, sep } from "node:path";
import { DecoError } from "../../protocol/errors.ts";

export interface HostFolderOptions {
  readonly home?: string;
  /** The daemon's own folders. */
  readonly own?: readonly string[];
  /** Whether names that differ in case alone are one; as this system's usually are when absent. */
  readonly caseless?: boolean;
}

/** Neither these nor what is below them, on any system; absent ones do no harm. */
const SYSTEM = [
  "/bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /lost+found /proc /root /run /sbin /snap /sys /usr",
  "/var/run /var/lib /var/log /var/spool /var/cache /var/db /var/backups /var/mail",
  "/System /Library /Applications /private/etc /private/var/db /private/var/root /private/var/run",
  // Sockets of the desktop; whoever gets all of /tmp gets agents' sockets as well.
  "/cores /nix /gnu /tmp/.X11-unix /tmp/.ICE-unix /tmp/.font-unix /tmp/.XIM-unix",
]
  .join(" ")
  .split(" ");

/** Keys, sessions and tokens of the owner, below the home folder. */
const CREDENTIALS = [
  ".ssh .aws .azure .gnupg .kube .docker .netrc .npmrc .pypirc .pgpass .git-credentials .gitconfig",
  ".config/gcloud .config/gh .config/git .config/op .config/deco-link .config/containers .config/hub",
  ".config/google-chrome .config/chromium .config/BraveSoftware .mozilla .thunderbird .password-store",
  ".local/share/keyrings .local/share/deco-link .local/state/deco-link .cache/deco-link",
  ".claude .codex .terraform.d .cargo/credentials.toml .m2/settings.xml .gem/credentials .vault-token",
  ".colima .orbstack .lima Library AppData .profile .bashrc .zshrc .local/bin",
]
  .join(" ")
  .split(" ");

/** Below the home folder: what the owner's session or shell runs, and where engines keep volumes. */
const RUN_BY_THE_OWNER = [
  ".config/systemd .config/autostart .config/environment.d .config/fish .config/zsh .config/nushell",
  ".local/share/systemd .local/share/applications .local/share/docker .local/share/containers",
  ".oh-my-zsh .vscode .vscode-server .cursor .config/Code .config/rclone .config/sops .config/age",
  ".cargo/bin .bun/bin .deno/bin .nvm .volta .pyenv .rbenv .asdf go/bin bin .gemini",
]
  .join(" ")
  .split(" ");

/**
 * The real path of a folder that a sandbox may be given, whoever allowed it. Refused are: the root,
 * the home folder and what is above it, system folders, credentials, what the owner's session runs,
 * the engine's sockets and the daemon's own, and whatever holds one of these.
 *
 * @throws policy_denied; invalid_request where there is no such folder
 */
export function hostFolder(path: string, options: HostFolderOptions = {}): string {
  const real = realFolder(path);
  const { home = homedir(), own = [], caseless = process.platform !== "linux" } = options;
  // Upper case folds more than lower: ſ is an s to such a file system.
  const folded = (one: string) => (caseless ? one.normalize("NFC").toUpperCase() : one);
  const isIn = (one: string, folder: string) => isWithin(folded(one), folded(folder));
  // A home of root's is a system folder anyway; what lies in it is not forbidden for that alone.
  const system = SYSTEM.filter((folder) => !isWithin(home, folder));
  const forbidden = [
    ...system,
    ...[...CREDENTIALS, ...RUN_BY_THE_OWNER].map((name) => join(home, name)),
    ...own,
    "/var/run/docker.sock",
  ].flatMap(bothPaths);
  const homes = bothPaths(home);
  const why = homes.some((one) => isIn(one, real))
    ? "is the home folder, or holds it"
    : forbidden.some((one) => isIn(real, one) || isIn(one, real))
      ? "is, or holds, a folder of the system, of credentials, of programs or of deco link itself"
      : undefined;
  if (why === undefined) return real;
  throw new DecoError("policy_denied", `${path} ${why}: no sandbox gets that`, {
    fix: "Give a folder that holds nothing but the work, such as ~/code/project.",
  });
}

/** Whether a path is a folder or lies below it; both are real paths. */
export function isWithin(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way === "" || (way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way));
}

/** @throws invalid_request */
export function realFolder(path: string): string {
  try {
    const real = realpathSync.native(path);
    if (statSync(real).isDirectory()) return real;
  } catch (cause) {
    throw new DecoError("invalid_request", `sandbox.workspace.path: no folder ${path}`, {
      cause,
      fix: "Name a folder that is on the laptop.",
    });
  }
  throw new DecoError("invalid_request", `sandbox.workspace.path: ${path} is no folder`, {
    fix: "Name a folder, not a file in it.",
  });
}

/** As it is written, and where it leads. */
function bothPaths(path: string): string[] {
  try {
    return [path, realpathSync.native(path)];
  } catch {
    return [path];
  }
}
