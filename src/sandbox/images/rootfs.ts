import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { DecoError } from "../../protocol/errors.ts";
import { runCommand } from "../run-command.ts";
import { readElf } from "./elf.ts";
import type { Foundation } from "./foundation.ts";

/** One entry of an image's file system; all belong to root. */
export type RootfsEntry =
  | { readonly type: "directory"; readonly path: string; readonly mode: number }
  | { readonly type: "link"; readonly path: string; readonly target: string }
  | { readonly type: "text"; readonly path: string; readonly mode: number; readonly text: string }
  | { readonly type: "file"; readonly path: string; readonly mode: number; readonly from: string };

const AGENT = "agent:x:1000:1000::/home/agent:/bin/sh";

/** Directories and files that every image of ours has (PROTOCOL.md, "harnessd"). */
export function baseEntries(): RootfsEntry[] {
  return [
    ...["/bin", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run", "/sys"].map((path) =>
      directory(path),
    ),
    ...["/usr", "/usr/bin", "/usr/local", "/usr/local/bin", "/var"].map((path) => directory(path)),
    // runc takes a tmpfs mount point's mode from the image.
    ...["/tmp", "/workspace", "/home/agent", "/run/harnessd", "/run/deco"].map((path) =>
      directory(path, 0o1777),
    ),
    text("/etc/passwd", ["root:x:0:0:root:/root:/bin/sh", AGENT]),
    text("/etc/group", ["root:x:0:", "agent:x:1000:"]),
    text("/etc/nsswitch.conf", ["hosts: files dns"]),
    { type: "link", path: "/var/tmp", target: "/tmp" },
    { type: "link", path: "/usr/bin/env", target: "/bin/busybox" },
  ];
}

/** What an image of somebody else's lacks to be one of ours; nothing of its own is lost. */
export function foundationEntries({ passwd, group }: Foundation): RootfsEntry[] {
  return [
    ...["/workspace", "/home/agent", "/run/harnessd", "/run/deco"].map((path) =>
      directory(path, 0o1777),
    ),
    directory("/tmp", 0o1777),
    text("/etc/passwd", withNumber1000(passwd, AGENT)),
    text("/etc/group", withNumber1000(group, "agent:x:1000:")),
  ];
}

/** Lines of passwd or group; whoever has the number already keeps it. */
function withNumber1000(known: string, line: string): string[] {
  const lines = known.trimEnd().split("\n");
  return lines.some((one) => one.split(":")[2] === "1000") ? lines : [...lines, line];
}

function directory(path: string, mode = 0o755): RootfsEntry {
  return { type: "directory", path, mode };
}

function text(path: string, lines: readonly string[]): RootfsEntry {
  return { type: "text", path, mode: 0o644, text: `${lines.join("\n")}\n` };
}

/**
 * busybox with a link per applet in /bin, so that `sh -c` finds the usual small tools.
 *
 * @param runnable one of the same build that runs here, to ask for its applets
 */
export async function busyboxEntries(
  path: string,
  runnable: string,
  signal: AbortSignal,
): Promise<RootfsEntry[]> {
  const listed = await runCommand([runnable, "--list"], { signal });
  const applets = listed.stdout.split("\n").filter((name) => /^[\w[.-]+$/.test(name));
  if (!applets.includes("sh")) {
    throw new DecoError("image_missing", `${path} is a busybox without a shell`);
  }
  return [
    { type: "file", path: "/bin/busybox", mode: 0o755, from: path },
    ...applets
      .filter((name) => name !== "busybox")
      .map((name): RootfsEntry => ({ type: "link", path: `/bin/${name}`, target: "busybox" })),
  ];
}

/** The shared libraries that a program names, at the places where its loader looks for them. */
export async function libraryEntries(program: string, signal: AbortSignal): Promise<RootfsEntry[]> {
  const result = await runCommand(["ldd", program], { signal });
  const paths = new Set<string>();
  for (const line of result.stdout.split("\n")) {
    if (line.includes("not found")) {
      throw new DecoError("image_missing", `${basename(program)} lacks a library:${line}`);
    }
    const path = /(?:=>\s*)?(\/\S+)\s+\(0x/.exec(line)?.[1];
    if (path !== undefined) paths.add(path);
  }
  const entries: RootfsEntry[] = [];
  for (const path of paths) {
    entries.push({ type: "file", path, mode: 0o755, from: await realpath(path) });
  }
  return entries;
}

/** The same for a program of another machine, from a directory that holds its libraries. */
export async function foreignLibraryEntries(program: string, root: string): Promise<RootfsEntry[]> {
  const folders = await libraryFolders(root);
  const entries = new Map<string, RootfsEntry>();
  const add = async (wanted: string) => {
    const path = await firstFile(
      wanted.startsWith("/") ? [wanted] : folders.map((f) => `${f}/${wanted}`),
      root,
    );
    if (path === undefined) {
      throw new DecoError("image_missing", `${basename(program)} lacks a library: ${wanted}`);
    }
    if (entries.has(path)) return;
    const from = await realpath(join(root, path));
    entries.set(path, { type: "file", path, mode: 0o755, from });
    await addAll(from);
  };
  const addAll = async (file: string) => {
    const elf = await readElf(file);
    if (elf?.interpreter !== undefined) await add(elf.interpreter);
    for (const name of elf?.needed ?? []) {
      // The loader is found by its own path, never by its name.
      if (!name.startsWith("ld-linux")) await add(name);
    }
  };
  await addAll(program);
  return [...entries.values()];
}

async function libraryFolders(root: string): Promise<string[]> {
  const triplets = await readdir(join(root, "lib"), { withFileTypes: true });
  return triplets.filter((entry) => entry.isDirectory()).map(({ name }) => `/lib/${name}`);
}

async function firstFile(paths: readonly string[], root: string): Promise<string | undefined> {
  for (const path of paths) if (await stat(join(root, path)).catch(() => undefined)) return path;
  return undefined;
}

/** Adds the directories that entries need, drops doubles; parents come first. */
export function completed(entries: readonly RootfsEntry[]): RootfsEntry[] {
  const byPath = new Map<string, RootfsEntry>();
  const parent = (path: string) => {
    const above = dirname(path);
    if (above === "/" || byPath.has(above)) return;
    parent(above);
    byPath.set(above, { type: "directory", path: above, mode: 0o755 });
  };
  for (const entry of entries) {
    parent(entry.path);
    if (!byPath.has(entry.path)) byPath.set(entry.path, entry);
  }
  return [...byPath.values()];
}

/** Bytes that stand for an entry in a content hash. Big files are named by the caller's key. */
export async function fingerprint(entry: RootfsEntry): Promise<Uint8Array | string> {
  if (entry.type === "text") return entry.text;
  if (entry.type === "link") return entry.target;
  if (entry.type === "directory") return "";
  return (await stat(entry.from)).size > 16 * 1024 * 1024 ? "" : await readFile(entry.from);
}
