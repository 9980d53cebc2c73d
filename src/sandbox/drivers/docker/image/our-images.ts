import type Dockerode from "dockerode";
import { DecoError } from "../../../../protocol/errors.ts";
import { type Engine, orMissing } from "../engine/engine.ts";
import { isSpare, LABELS } from "../names.ts";
import { PAUSE_ROLE } from "../network/pause.ts";
import { digestOf, findLocalImage, IMAGE_LABELS } from "./local-image.ts";

export interface OurImage {
  /** Name of the build. */
  readonly image: string;
  /** `sha256:…` */
  readonly id: string;
  readonly digest: string;
  readonly platform: string;
  readonly tags: readonly string[];
  readonly harnesses: readonly string[];
  readonly sizeBytes: number;
  /** RFC 3339. */
  readonly createdAt: string;
  /** Containers that are made from it, running or not, whoever made them. */
  readonly containers: number;
  /** Those of them that a daemon made ahead, for nobody yet, or for a sandbox's network. */
  readonly madeAhead: number;
}

/**
 * Images that `deco image build` made, those that lie on others first. What somebody built on top of
 * one inherits its labels, but does not bear the tag that they name: it is not ours.
 *
 * @throws docker_unavailable
 */
export async function listImages(engine: Engine, signal: AbortSignal): Promise<OurImage[]> {
  const filters = { label: [IMAGE_LABELS.content] };
  const found = await engine.call("list images", (docker) => docker.listImages({ filters }), {
    signal,
  });
  const containers = await engine.call(
    "list containers",
    (docker) => docker.listContainers({ all: true }),
    { signal },
  );
  const listed = await Promise.all(
    found.map(async ({ Id, RepoTags, RepoDigests, Size, Created, Labels }) => {
      const labels: Readonly<Record<string, string>> = Labels ?? {};
      if (!RepoTags?.includes(labels[IMAGE_LABELS.content] ?? "")) return undefined;
      const users = containers.filter(({ ImageID }) => ImageID === Id);
      return {
        image: labels[IMAGE_LABELS.image] ?? "",
        id: Id,
        digest: digestOf(RepoDigests, Id),
        platform: (await findLocalImage(engine, Id, signal))?.platform ?? "",
        tags: RepoTags,
        harnesses: (labels[IMAGE_LABELS.harnesses] ?? "").split(",").filter((name) => name !== ""),
        sizeBytes: Size,
        createdAt: new Date(Created * 1000).toISOString(),
        containers: users.length,
        madeAhead: users.filter(isMadeAhead).length,
      };
    }),
  );
  return listed
    .filter((image) => image !== undefined)
    .toSorted((a, b) => b.harnesses.length - a.harnesses.length || b.sizeBytes - a.sizeBytes);
}

function isMadeAhead({ Names, Labels }: Pick<Dockerode.ContainerInfo, "Names" | "Labels">) {
  return Labels?.[LABELS.role] === PAUSE_ROLE || isSpare(Names?.[0] ?? "", Labels ?? {});
}

/** Those without a container that a newer one of the same build and platform has taken the place of. */
export function supersededImages(all: readonly OurImage[]): OurImage[] {
  const sameKind = (a: OurImage, b: OurImage) => a.image === b.image && a.platform === b.platform;
  return all.filter(
    (one) =>
      one.containers === 0 &&
      all.some((other) => sameKind(one, other) && other.createdAt > one.createdAt),
  );
}

/**
 * Removes an image of ours by its tags. Layers that other images need stay with them.
 *
 * @returns the tags that are gone
 * @throws sandbox_busy while a container is made from it
 */
export async function removeImage(
  engine: Engine,
  image: OurImage,
  signal: AbortSignal,
): Promise<string[]> {
  refuseUsed([image]);
  for (const tag of image.tags) {
    const removal = engine.call(
      `remove ${tag}`,
      // Never forced: a container that was made meanwhile keeps its image.
      (docker) => docker.getImage(tag).remove({ force: false }),
      { signal, deadlineMs: 60_000 },
    );
    await orMissing(removal);
  }
  return [...image.tags];
}

/** @throws sandbox_busy with those of them that containers are made from */
export function refuseUsed(images: readonly OurImage[]): void {
  const used = images.filter(({ containers }) => containers > 0);
  if (used.length === 0) return;
  const list = used.map(({ tags, containers }) => `${tags.join(", ")} by ${containers}`);
  const isOfSandboxes = used.some(({ containers, madeAhead }) => containers > madeAhead);
  const isAhead = used.some(({ madeAhead }) => madeAhead > 0);
  const steps = [
    ...(isOfSandboxes ? ["remove its sandboxes (`deco sandbox ls`, `deco sandbox rm`)"] : []),
    ...(isAhead ? ["end `deco up` or `deco link`, with which goes what is made ahead"] : []),
  ];
  throw new DecoError("sandbox_busy", `containers are made from it: ${list.join("; ")}`, {
    fix: `First ${steps.join(", and ")}; or remove only what nothing uses: \`deco image rm --old\`.`,
  });
}
