import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { makePaths } from "../daemon/paths.ts";
import { DecoError } from "../protocol/errors.ts";
import { dockerEngine } from "../sandbox/drivers/docker/engine/engine.ts";
import {
  type BuildOptions,
  type BuiltImage,
  buildArguments,
  contextOf,
  ensureRecipe,
} from "../sandbox/drivers/docker/image/build-image.ts";
import {
  listImages,
  type OurImage,
  refuseUsed,
  removeImage,
  supersededImages,
} from "../sandbox/drivers/docker/image/our-images.ts";
import { readFoundation } from "../sandbox/drivers/docker/image/read-foundation.ts";
import { imageOfHarness, recipe } from "../sandbox/images/recipes.ts";
import { BUILDS, type BuildName, PLATFORMS, type Platform } from "../sandbox/templates/template.ts";
import type { Command, CommandContext } from "./command.ts";
import { settings } from "./settings.ts";
import { table } from "./text-table.ts";

interface BuildFlags {
  readonly harness?: string;
  readonly all?: boolean;
  readonly base?: string;
  readonly platform?: string;
  readonly context?: string;
}

/** `deco image build`: our images, from this machine's own files; no registry without --base. */
export function build(names: readonly string[], flags: BuildFlags): Command {
  return async (context) => {
    const { out, signal } = context;
    const images = namesOf(names, flags);
    const platform = platformOf(flags.platform);
    const { engine, cacheDir } = await engineOf(context);
    const onProgress = (line: string, fraction?: number) => out.progress(line, fraction);
    const onto = { platform, signal, onProgress };
    const foundation = flags.base && (await readFoundation(engine, flags.base, onto));
    const options: BuildOptions = {
      ...onto,
      engine,
      cacheDir,
      ...(foundation ? { foundation } : {}),
    };
    if (flags.context !== undefined)
      return await writeContext(context, images, options, flags.context);
    const built: BuiltImage[] = [];
    for (const image of images) {
      // Half a minute where nothing of it is in the cache.
      onProgress(`preparing ${image}`);
      built.push(await ensureRecipe(await recipe(image, options), options));
    }
    const [only] = built;
    out.result(built.length === 1 && only ? only : { images: built }, () =>
      built.map((one) => `${one.built ? "built" : "up to date"}: ${one.tag}`).join("\n"),
    );
    return 0;
  };
}

/** The context of one layer, for a builder elsewhere. */
async function writeContext(
  { out, signal }: CommandContext,
  images: readonly BuildName[],
  options: BuildOptions,
  file: string,
): Promise<number> {
  const [image] = images;
  if (image === undefined || images.length > 1) {
    throw new DecoError("usage", "--context writes one image: name it");
  }
  const wanted = await recipe(image, options);
  const context = await contextOf(wanted, {
    signal,
    onBytes: (sent, total) => out.progress(`writing ${file}`, sent / Math.max(total, 1)),
  });
  await pipeline(context, createWriteStream(file), { signal });
  const { tag, platform } = wanted;
  const args = Object.entries(buildArguments(wanted)).map(([k, v]) => `--build-arg ${k}=${v}`);
  const command = `docker build --platform ${platform} -t ${tag} ${args.join(" ")} - <${file}`;
  out.result({ tag, platform, file, command }, () => command);
  return 0;
}

/** `deco image ls`: the images of ours on this machine's engine. */
export function list(): Command {
  return async (context) => {
    const { out, signal } = context;
    const { engine } = await engineOf(context);
    const listed = await listImages(engine, signal);
    const old = new Set(supersededImages(listed));
    const images = listed.map((image) => ({ ...image, superseded: old.has(image) }));
    out.result({ images }, () => {
      if (images.length === 0) return "no images; build one with `deco image build`";
      const rows = images.map((image) => [
        image.tags.join(", ") || "<none>",
        image.digest.replace("sha256:", "").slice(0, 12),
        image.platform,
        image.harnesses.join(",") || "-",
        `${Math.round(image.sizeBytes / 1e6)} MB`,
        useOf(image),
        image.createdAt,
      ]);
      const head = ["IMAGE", "DIGEST", "PLATFORM", "HARNESSES", "SIZE", "IN USE", "CREATED"];
      const listing = table(head, rows);
      if (old.size === 0) return listing;
      return `${listing}\n${old.size} old of ${images.length}: \`deco image rm --old\` removes them`;
    });
    return 0;
  };
}

function useOf({ containers, madeAhead, superseded }: OurImage & { superseded: boolean }): string {
  if (containers > 0 && madeAhead === containers) return `by ${containers} made ahead`;
  if (containers > 0) return `by ${containers}`;
  return superseded ? "no, old" : "no";
}

interface RemoveFlags {
  readonly unused?: boolean;
  readonly old?: boolean;
}

/**
 * `deco image rm`: by tag, id, or the name of a build; all that no container is made from; or those
 * of them that a newer one has taken the place of.
 */
export function remove(names: readonly string[], flags: RemoveFlags): Command {
  return async (context) => {
    const { out, signal } = context;
    const ways = [names.length > 0, flags.unused === true, flags.old === true];
    if (ways.filter(Boolean).length !== 1) {
      throw new DecoError("usage", "name the images to remove, or say --old, or --unused", {
        fix: "See `deco image rm --help`.",
      });
    }
    const { engine } = await engineOf(context);
    const all = await listImages(engine, signal);
    const wanted = chosen(all, names, flags);
    // Before the first goes: half a command would not say what it did.
    refuseUsed(wanted);
    const removed: string[] = [];
    // Those that lie on others first.
    for (const image of new Set(wanted))
      removed.push(...(await removeImage(engine, image, signal)));
    out.result({ removed }, () =>
      removed.length === 0
        ? "nothing to remove"
        : removed.map((tag) => `removed ${tag}`).join("\n"),
    );
    return 0;
  };
}

function chosen(all: readonly OurImage[], names: readonly string[], { unused, old }: RemoveFlags) {
  if (old) return supersededImages(all);
  if (unused) return all.filter(({ containers }) => containers === 0);
  return names.flatMap((name) => {
    const found = all.filter((image) => isCalled(image, name));
    if (found.length > 0) return found;
    throw new DecoError("image_missing", `no image of ours is called ${name}`, {
      fix: "List them with `deco image ls`.",
    });
  });
}

function isCalled(image: { id: string; image: string; tags: readonly string[] }, name: string) {
  const hex = name.replace(/^sha256:/, "");
  if (/^[0-9a-f]{12,64}$/.test(hex) && image.id.startsWith(`sha256:${hex}`)) return true;
  return image.tags.includes(name) || image.image === name;
}

function namesOf(names: readonly string[], { harness, all }: BuildFlags): BuildName[] {
  if (all) return [...BUILDS];
  if (names.length === 0) return [imageOfHarness(harness)];
  return names.map((name) => {
    const known = BUILDS.find((image) => image === name);
    if (known !== undefined) return known;
    throw new DecoError("usage", `no image is called "${name}": ${BUILDS.join(", ")}`);
  });
}

function platformOf(name: string | undefined): Platform | undefined {
  const known = PLATFORMS.find((platform) => platform === name);
  if (name === undefined || known !== undefined) return known;
  throw new DecoError("usage", `no images for "${name}": ${PLATFORMS.join(", ")}`);
}

async function engineOf({ env }: CommandContext) {
  const config = settings(env);
  await makePaths(config.paths);
  return { engine: dockerEngine(config), cacheDir: config.paths.cache };
}
