import { createHash } from "node:crypto";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { DecoError } from "../../protocol/errors.ts";
import { bunExecutable, ensureHarnessdBinary, harnessdSource } from "../harnessd-binary.ts";
import { findBusybox } from "./busybox.ts";
import { CLAUDE_VERSION, ensureClaude } from "./claude-binary.ts";
import {
  baseEntries,
  busyboxEntries,
  completed,
  fingerprint,
  libraryEntries,
  type RootfsEntry,
} from "./rootfs.ts";

export const IMAGES = ["harnessd", "claude-code"] as const;
export type ImageName = (typeof IMAGES)[number];

/** What one image is made of; big programs are made or fetched only when it is really built. */
export interface Recipe {
  readonly image: ImageName;
  /** `deco-link/<name>:<12 hex digits of its content>` */
  readonly tag: string;
  /** Tag of the image below; undefined: from scratch. */
  readonly base: string | undefined;
  readonly entries: (signal: AbortSignal) => Promise<RootfsEntry[]>;
}

/** Change it whenever the layout or the Dockerfile changes. */
const LAYOUT = "1";

/** The recipe of an image on this machine; cheap, so that its tag can be looked up first. */
export async function recipe(
  image: ImageName,
  cacheDir: string,
  signal: AbortSignal,
): Promise<Recipe> {
  if (process.platform !== "linux") {
    throw new DecoError(
      "image_missing",
      "images are built from this machine's own libraries, which needs Linux",
      {
        fix: "Build them on Linux (`deco image build`), then `docker save` and `docker load` here.",
      },
    );
  }
  const harnessd = await harnessdRecipe(cacheDir, signal);
  return image === "harnessd" ? harnessd : await claudeRecipe(harnessd, cacheDir, signal);
}

async function harnessdRecipe(cacheDir: string, signal: AbortSignal): Promise<Recipe> {
  const small = [
    ...baseEntries(),
    ...(await busyboxEntries(await findBusybox(cacheDir, signal), signal)),
    // harnessd is Bun with our code behind it: it needs what Bun needs.
    ...(await libraryEntries(await bunExecutable(), signal)),
  ];
  const { hash } = await harnessdSource();
  return {
    image: "harnessd",
    tag: `deco-link/harnessd:${await contentHash(small, [LAYOUT, hash])}`,
    base: undefined,
    entries: async (s) => {
      const from = await ensureHarnessdBinary({ cacheDir, signal: s });
      return completed([
        ...small,
        { type: "file", path: "/usr/local/bin/harnessd", mode: 0o755, from },
      ]);
    },
  };
}

async function claudeRecipe(below: Recipe, cacheDir: string, signal: AbortSignal): Promise<Recipe> {
  const bash = await findBash();
  // Its Bash tool refuses busybox's sh.
  const small: RootfsEntry[] = [
    { type: "file", path: "/bin/bash", mode: 0o755, from: bash },
    ...(await libraryEntries(bash, signal)),
  ];
  return {
    image: "claude-code",
    tag: `deco-link/claude-code:${await contentHash(small, [LAYOUT, below.tag, CLAUDE_VERSION])}`,
    base: below.tag,
    entries: async (s) => {
      const from = await ensureClaude(cacheDir, s);
      return completed([
        ...small,
        ...(await libraryEntries(from, s)),
        { type: "file", path: "/usr/local/bin/claude", mode: 0o755, from },
      ]);
    },
  };
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

async function contentHash(entries: readonly RootfsEntry[], keys: readonly string[]) {
  const hash = createHash("sha256").update(keys.join("\0"));
  for (const entry of completed(entries)) {
    const mode = entry.type === "link" ? "" : entry.mode.toString(8);
    hash.update(`\0${entry.type} ${entry.path} ${mode}\0`).update(await fingerprint(entry));
  }
  return hash.digest("hex").slice(0, 12);
}
