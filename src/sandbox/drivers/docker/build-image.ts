import type Dockerode from "dockerode";
import { DecoError } from "../../../protocol/errors.ts";
import { buildContext } from "../../images/build-context.ts";
import { type ImageName, type Recipe, recipe } from "../../images/recipes.ts";
import { SharedWork } from "../../shared-work.ts";
import { type Engine, orMissing } from "./engine.ts";

/** Marks the images that `deco image` may list and remove. */
export const IMAGE_LABEL = "dev.deco-link.image";

export interface BuiltImage {
  readonly image: ImageName;
  readonly tag: string;
  /** `sha256:…` */
  readonly id: string;
  /** False when it was there already. */
  readonly built: boolean;
}

interface BuildOptions {
  readonly engine: Engine;
  readonly cacheDir: string;
  readonly signal: AbortSignal;
  /** One line of the engine's output, or of ours. */
  readonly onProgress?: (line: string) => void;
}

const BUILD_DEADLINE_MS = 300_000;
const builds = new SharedWork<BuiltImage>();

/**
 * Makes sure that an image of ours is on this machine, with the ones below it. Needs no registry.
 *
 * @throws image_missing, docker_unavailable, sandbox_failed
 */
export async function ensureImage(image: ImageName, o: BuildOptions): Promise<BuiltImage> {
  const wanted = await recipe(image, o.cacheDir, o.signal);
  const id = await imageId(o.engine, wanted.tag, o.signal);
  if (id !== undefined) return { image, tag: wanted.tag, id, built: false };
  if (wanted.base !== undefined) await ensureImage("harnessd", o);
  const key = `${o.engine.address} ${wanted.tag}`;
  return await builds.run(key, o.signal, (signal) => build(wanted, { ...o, signal }));
}

/** Id of a local image; never asks a registry (LESSONS 32). */
export async function imageId(
  engine: Engine,
  tag: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const work = engine.call("inspect an image", (docker) => docker.getImage(tag).inspect(), {
    signal,
  });
  return (await orMissing(work))?.Id;
}

async function build(wanted: Recipe, o: BuildOptions): Promise<BuiltImage> {
  o.onProgress?.(`building ${wanted.tag}`);
  const entries = await wanted.entries(o.signal);
  const lines: string[] = [];
  await o.engine.call(
    `build ${wanted.tag}`,
    async (docker, abortSignal) => {
      const context = buildContext(dockerfile(wanted), entries);
      const options = { t: wanted.tag, forcerm: true, pull: false, abortSignal };
      const output = await docker.buildImage(context, options);
      await followBuild(docker, output, (line) => {
        lines.push(line);
        o.onProgress?.(line);
      });
    },
    { signal: o.signal, deadlineMs: BUILD_DEADLINE_MS },
  );
  const id = await imageId(o.engine, wanted.tag, o.signal);
  if (id !== undefined) return { image: wanted.image, tag: wanted.tag, id, built: true };
  throw new DecoError(
    "image_missing",
    `the build left no ${wanted.tag}: ${lines.slice(-3).join(" ")}`,
  );
}

function dockerfile(wanted: Recipe): string {
  const harnessd = [
    'ENTRYPOINT ["/usr/local/bin/harnessd"]',
    "ENV PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/agent",
    "WORKDIR /workspace",
    "USER 1000:1000",
    "EXPOSE 8080",
  ];
  return [
    `FROM ${wanted.base ?? "scratch"}`,
    "COPY rootfs/ /",
    `LABEL ${IMAGE_LABEL}=${wanted.image}`,
    ...(wanted.base === undefined ? harnessd : []),
    "",
  ].join("\n");
}

/** The end of a build, which reports its errors as lines of its output only. */
function followBuild(
  docker: Dockerode,
  output: NodeJS.ReadableStream,
  onLine: (line: string) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let failed: string | undefined;
    const onProgress = (event: unknown) => {
      const { stream, error } = readProgress(event);
      if (error !== undefined) failed ??= error;
      const line = (error ?? stream ?? "").trim();
      if (line !== "") onLine(line);
    };
    docker.modem.followProgress(
      output,
      (error) => {
        if (error) reject(error);
        else if (failed === undefined) resolve();
        else reject(new DecoError("sandbox_failed", `the image does not build: ${failed}`));
      },
      onProgress,
    );
  });
}

function readProgress(event: unknown): { stream?: string; error?: string } {
  if (typeof event !== "object" || event === null) return {};
  const { stream, error } = event as { stream?: unknown; error?: unknown };
  return {
    ...(typeof stream === "string" ? { stream } : {}),
    ...(typeof error === "string" ? { error } : {}),
  };
}
