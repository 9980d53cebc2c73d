import { DecoError } from "../../../../protocol/errors.ts";
import { imageOfHarness, recipe } from "../../../images/recipes.ts";
import { hostPlatform } from "../../../images/target.ts";
import type { Platform } from "../../../templates/template.ts";
import type { Job } from "../job.ts";
import { ensureRecipe } from "./build-image.ts";
import {
  checkPlatform,
  findLocalImage,
  isImageId,
  type LocalImage,
  pullFix,
} from "./local-image.ts";
import { pullImage } from "./pull-image.ts";

/**
 * What the engine shall make the container from, which is on this machine then: one of ours is built,
 * and one that the laptop's own template or map of runtimes names may be pulled. What a request
 * names is never asked of a registry.
 *
 * @throws image_missing with the command that brings it
 */
export async function findImage(job: Job): Promise<string> {
  const { setup, wanted } = job;
  const { reference, digest } =
    wanted.image === undefined ? await ours(job) : await theirs(job, wanted.image);
  setup.seen.digests.set(reference, digest);
  return reference;
}

interface Found {
  readonly reference: string;
  readonly digest: string;
}

async function theirs(job: Job, reference: string): Promise<Found> {
  const { setup, wanted, signal } = job;
  const found = await findLocalImage(setup.engine, reference, signal);
  const mayPull = wanted.pull && !isImageId(reference);
  const image = found ?? (mayPull ? await pulled(job, reference) : missing(job, reference));
  checkPlatform(reference, image, wanted.platform);
  return { reference, digest: image.digest };
}

/** A build of ours; the one of before, while it is there. */
async function ours(job: Job): Promise<Found> {
  const { setup, wanted, context, stages, signal } = job;
  const { engine, cacheDir, seen, log } = setup;
  const image = wanted.build ?? imageOfHarness(context.harness);
  const platform = wanted.platform ?? hostPlatform();
  const key = `${image} ${platform}` as const;
  const known = seen.tags.get(key);
  const there = known && (await findLocalImage(engine, known, signal));
  if (known !== undefined && there) return { reference: known, digest: there.digest };
  const wantedImage = await recipe(image, { cacheDir, platform, signal });
  const onProgress = (line: string, fraction?: number) => {
    log.debug({ image, line }, "image build");
    if (fraction !== undefined) stages.progress("build", fraction);
  };
  const { tag } = wantedImage;
  const found =
    (await findLocalImage(engine, tag, signal)) ??
    (await stages.run("build", () =>
      ensureRecipe(wantedImage, { engine, cacheDir, signal, onProgress }),
    ));
  seen.tags.set(key, tag);
  return { reference: tag, digest: found.digest };
}

async function pulled({ setup, wanted, stages, signal }: Job, reference: string) {
  const { platform } = wanted;
  return await stages.run("pull", () =>
    pullImage(setup.engine, reference, {
      platform,
      signal,
      onProgress: (fraction) => stages.progress("pull", fraction),
    }),
  );
}

function missing({ wanted }: Job, reference: string): LocalImage {
  const platform: Platform = wanted.platform ?? hostPlatform();
  throw new DecoError("image_missing", `no image ${reference} on this machine`, {
    fix: pullFix(reference, platform),
  });
}
