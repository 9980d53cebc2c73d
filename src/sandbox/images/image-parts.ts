import { access } from "node:fs/promises";
import { join } from "node:path";
import { DecoError } from "../../protocol/errors.ts";
import type { HarnessName } from "../../protocol/messages.ts";
import { bunExecutable, ensureHarnessdBinary, harnessdSource } from "../harnessd-binary.ts";
import { findBusybox } from "./busybox.ts";
import { CLAUDE_VERSION, ensureClaude } from "./claude-binary.ts";
import { CODEX_VERSION, codexEntries } from "./codex-binary.ts";
import { ensureDebianRoot } from "./debian-root.ts";
import type { Foundation } from "./foundation.ts";
import {
  baseEntries,
  busyboxEntries,
  foreignLibraryEntries,
  foundationEntries,
  libraryEntries,
  type RootfsEntry,
} from "./rootfs.ts";
import { isHost, type Target } from "./target.ts";

export interface PartOptions {
  readonly cacheDir: string;
  readonly target: Target;
  /** Absent: from scratch. */
  readonly foundation?: Foundation | undefined;
  readonly signal: AbortSignal;
}

/** What one layer adds; big programs are made or fetched only when it is really built. */
export interface Part {
  readonly harnesses: readonly HarnessName[];
  /** Names the versions of what `big` brings. */
  readonly key: string;
  readonly small: readonly RootfsEntry[];
  readonly big: (signal: AbortSignal) => Promise<RootfsEntry[]>;
}

/** harnessd with what it needs to run: the whole of the smallest image. */
export async function harnessdPart(o: PartOptions): Promise<Part> {
  const { cacheDir, target, foundation, signal } = o;
  return {
    harnesses: ["shell"],
    key: (await harnessdSource()).hash,
    small: foundation === undefined ? await scratchEntries(o) : foundationEntries(foundation),
    big: async (s) => {
      const from = await ensureHarnessdBinary({ cacheDir, target, signal: s });
      const program: RootfsEntry = {
        type: "file",
        path: "/usr/local/bin/harnessd",
        mode: 0o755,
        from,
      };
      const own = isHost(target) ? [] : await programLibraries(from, { ...o, signal });
      return [...own, program];
    },
  };
}

export async function claudePart(o: PartOptions): Promise<Part> {
  const { cacheDir, target, foundation, signal } = o;
  return {
    harnesses: ["claude-code"],
    key: CLAUDE_VERSION,
    // Its Bash tool refuses busybox's sh. Other people's images have a bash of their own.
    small: foundation === undefined ? await bashEntries({ ...o, signal }) : [],
    big: async (s) => {
      const from = await ensureClaude(cacheDir, target, s);
      return [
        ...(await programLibraries(from, { ...o, signal: s })),
        { type: "file", path: "/usr/local/bin/claude", mode: 0o755, from },
      ];
    },
  };
}

/** Static: needs nothing below it but a shell. */
export function codexPart({ cacheDir, target }: PartOptions): Part {
  return {
    harnesses: ["codex"],
    key: CODEX_VERSION,
    small: [],
    big: (signal) => codexEntries(cacheDir, target, signal),
  };
}

async function scratchEntries({ cacheDir, target, signal }: PartOptions): Promise<RootfsEntry[]> {
  const busybox = await findBusybox(cacheDir, signal);
  if (isHost(target)) {
    return [
      ...baseEntries(),
      ...(await busyboxEntries(busybox, busybox, signal)),
      // harnessd is Bun with our code behind it: it needs what Bun needs.
      ...(await libraryEntries(await bunExecutable(), signal)),
    ];
  }
  const root = await ensureDebianRoot(cacheDir, target.platform, signal);
  return [
    ...baseEntries(),
    ...(await busyboxEntries(join(root, "bin", "busybox"), busybox, signal)),
    ...(await foreignLibraryEntries(join(root, "bin", "bash"), root)),
  ];
}

async function programLibraries(program: string, o: PartOptions): Promise<RootfsEntry[]> {
  if (o.foundation !== undefined) return [];
  if (isHost(o.target)) return await libraryEntries(program, o.signal);
  const root = await ensureDebianRoot(o.cacheDir, o.target.platform, o.signal);
  return await foreignLibraryEntries(program, root);
}

async function bashEntries(o: PartOptions): Promise<RootfsEntry[]> {
  const from = isHost(o.target)
    ? await findBash()
    : join(await ensureDebianRoot(o.cacheDir, o.target.platform, o.signal), "bin", "bash");
  return [
    { type: "file", path: "/bin/bash", mode: 0o755, from },
    ...(await programLibraries(from, o)),
  ];
}

async function findBash(): Promise<string> {
  for (const directory of ["/bin", "/usr/bin", "/usr/local/bin"]) {
    const path = join(directory, "bash");
    const found = await access(path).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  throw new DecoError("image_missing", "no bash on this machine, which claude needs", {
    fix: "Install bash, then run `deco image build` again.",
  });
}
