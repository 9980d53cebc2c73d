import { createHash } from "node:crypto";
import { DecoError } from "../../protocol/errors.ts";
import type { HarnessName } from "../../protocol/messages.ts";
import type { BuildName, Platform } from "../templates/template.ts";
import type { Foundation } from "./foundation.ts";
import { claudePart, codexPart, harnessdPart, type Part, type PartOptions } from "./image-parts.ts";
import { completed, fingerprint, type RootfsEntry } from "./rootfs.ts";
import { hostPlatform } from "./target.ts";

/** What one image is made of; big programs are made or fetched only when it is really built. */
export interface Recipe {
  readonly image: BuildName;
  /** `deco-link/<name>:<12 hex digits of its content>` */
  readonly tag: string;
  readonly platform: Platform;
  /** What it can run. */
  readonly harnesses: readonly HarnessName[];
  /** The image of ours below it. */
  readonly below: Recipe | undefined;
  readonly foundation: Foundation | undefined;
  readonly entries: (signal: AbortSignal) => Promise<RootfsEntry[]>;
}

export interface RecipeOptions {
  readonly cacheDir: string;
  /** This machine's own when absent. */
  readonly platform?: Platform | undefined;
  /** Absent: from scratch, with libraries of this machine or of Debian. */
  readonly foundation?: Foundation | undefined;
  readonly signal: AbortSignal;
}

/** Change it whenever the layout or the Dockerfile changes. */
const LAYOUT = "3";

const BELOW = {
  harnessd: undefined,
  "claude-code": "harnessd",
  codex: "harnessd",
  all: "claude-code",
} as const satisfies Record<BuildName, BuildName | undefined>;

/** Our image for a harness that has no template. */
export function imageOfHarness(harness: string | undefined): BuildName {
  return harness === "claude-code" || harness === "codex" ? harness : "harnessd";
}

/**
 * The recipe of an image; cheap, so that its tag can be looked up first.
 *
 * @throws image_missing where this machine can't build it
 */
export async function recipe(image: BuildName, o: RecipeOptions): Promise<Recipe> {
  const { cacheDir, foundation, signal, platform = hostPlatform() } = o;
  if (process.platform !== "linux") {
    throw new DecoError(
      "image_missing",
      "images are built from this machine's own libraries, which needs Linux",
      {
        fix: "Build them on Linux (`deco image build`), then `docker save` and `docker load` here.",
      },
    );
  }
  const target = { platform, libc: foundation?.libc ?? "glibc" } as const;
  return await layer(image, { cacheDir, target, foundation, signal });
}

async function layer(image: BuildName, o: PartOptions): Promise<Recipe> {
  const { foundation, target } = o;
  const beneath = BELOW[image];
  const below = beneath === undefined ? undefined : await layer(beneath, o);
  const part = await partOf(image, o);
  const keys = [LAYOUT, target.platform, foundation?.id ?? "", below?.tag ?? "", part.key];
  return {
    image,
    tag: `deco-link/${image}:${await contentHash(part.small, keys)}`,
    platform: target.platform,
    harnesses: [...(below?.harnesses ?? []), ...part.harnesses],
    below,
    foundation,
    entries: async (signal) => completed([...part.small, ...(await part.big(signal))]),
  };
}

async function partOf(image: BuildName, o: PartOptions): Promise<Part> {
  if (image === "harnessd") return await harnessdPart(o);
  return image === "claude-code" ? await claudePart(o) : codexPart(o);
}

async function contentHash(entries: readonly RootfsEntry[], keys: readonly string[]) {
  const hash = createHash("sha256").update(keys.join("\0"));
  for (const entry of completed(entries)) {
    const mode = entry.type === "link" ? "" : entry.mode.toString(8);
    hash.update(`\0${entry.type} ${entry.path} ${mode}\0`).update(await fingerprint(entry));
  }
  return hash.digest("hex").slice(0, 12);
}
