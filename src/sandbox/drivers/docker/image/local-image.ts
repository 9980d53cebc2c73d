import { DecoError } from "../../../../protocol/errors.ts";
import { hostPlatform } from "../../../images/target.ts";
import type { Platform } from "../../../templates/template.ts";
import { type Engine, orMissing } from "../engine/engine.ts";

/** Labels of our images; those that others build on them inherit them, all but the content's tag. */
export const IMAGE_LABELS = {
  image: "dev.deco-link.image",
  harnesses: "dev.deco-link.harnesses",
  /** The tag that the image was built for. */
  content: "dev.deco-link.content",
} as const;

export interface LocalImage {
  /** `sha256:…`, of its configuration. */
  readonly id: string;
  /** `sha256:…` of its manifest where it came from a registry, else its id. Either pins it. */
  readonly digest: string;
  /** Such as `linux/amd64`; without a variant. */
  readonly platform: string;
  readonly tags: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Whether it names what to start. */
  readonly hasProgram: boolean;
}

/**
 * An image that is on this machine; never asks a registry (LESSONS 32).
 *
 * @param reference tag, `name@sha256:…` or id
 * @returns undefined when it is not there
 * @throws docker_unavailable, sandbox_failed
 */
export async function findLocalImage(
  engine: Engine,
  reference: string,
  signal: AbortSignal,
): Promise<LocalImage | undefined> {
  const work = engine.call("inspect an image", (docker) => docker.getImage(reference).inspect(), {
    signal,
  });
  const found = await orMissing(work);
  if (found === undefined) return undefined;
  return {
    id: found.Id,
    digest: digestOf(found.RepoDigests, found.Id),
    platform: `${found.Os}/${found.Architecture}`,
    tags: found.RepoTags ?? [],
    labels: found.Config?.Labels ?? {},
    hasProgram: [found.Config?.Entrypoint ?? [], found.Config?.Cmd ?? []].flat().length > 0,
  };
}

/** Digest of the manifest, `sha256:…`; the id where no registry gave one. */
export function digestOf(repoDigests: readonly string[] | undefined, id: string): string {
  return repoDigests?.[0]?.split("@")[1] ?? id;
}

/** Platform of a local image, such as `linux/amd64`; undefined when it is not there. */
export async function imagePlatform(
  engine: Engine,
  reference: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  return (await findLocalImage(engine, reference, signal))?.platform;
}

/** Id of a local image; undefined when it is not there. */
export async function imageId(
  engine: Engine,
  reference: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  return (await findLocalImage(engine, reference, signal))?.id;
}

/**
 * Refuses an image of another platform than the wanted one; where none is wanted, than the host's:
 * emulation only when it was asked for.
 *
 * @throws image_missing with the command that brings the right one
 */
export function checkPlatform(
  reference: string,
  found: LocalImage,
  wanted: Platform | undefined,
): void {
  const platform = wanted ?? hostPlatform();
  if (found.platform === platform) return;
  const detail = `${reference} on this machine is for ${found.platform}, not ${platform}`;
  throw new DecoError("image_missing", detail, { fix: pullFix(reference, platform) });
}

/** What names no registry: an image's own id. */
export const isImageId = (reference: string) => reference.startsWith("sha256:");

/** The command that brings an image. */
export function pullFix(reference: string, platform: Platform): string {
  if (reference.startsWith("deco-link/")) return "Run `deco image build --all`.";
  return isImageId(reference)
    ? "No registry knows an id: bring the image by `docker load`, or name it NAME@sha256:…."
    : `Run \`docker pull --platform ${platform} ${reference}\`.`;
}
