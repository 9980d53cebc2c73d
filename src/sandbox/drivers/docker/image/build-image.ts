import alpineDockerfile from "../../../../../images/alpine.Dockerfile" with { type: "text" };
import dockerfile from "../../../../../images/Dockerfile" with { type: "text" };
import { DecoError } from "../../../../protocol/errors.ts";
import { buildContext } from "../../../images/build-context.ts";
import type { Foundation } from "../../../images/foundation.ts";
import { type Recipe, recipe } from "../../../images/recipes.ts";
import { SharedWork } from "../../../shared-work.ts";
import type { BuildName, Platform } from "../../../templates/template.ts";
import type { Engine } from "../engine/engine.ts";
import { type EngineMessage, followProgress } from "../engine/engine-progress.ts";
import { findLocalImage, type LocalImage } from "./local-image.ts";

export interface BuiltImage {
  readonly image: BuildName;
  readonly tag: string;
  /** `sha256:…` */
  readonly id: string;
  readonly digest: string;
  readonly platform: string;
  /** False when it was there already. */
  readonly built: boolean;
}

export interface BuildOptions {
  readonly engine: Engine;
  readonly cacheDir: string;
  readonly platform?: Platform | undefined;
  readonly foundation?: Foundation | undefined;
  readonly signal: AbortSignal;
  /** Nothing of an earlier build is taken over by the engine. */
  readonly afresh?: boolean;
  /** A line of the engine's output or of ours; share of one image's work, 0 to 1, where known. */
  readonly onProgress?: (line: string, fraction?: number) => void;
}

const BUILD_DEADLINE_MS = 300_000;
/** The engine copies and commits after the last byte: what is left of the bar then. */
const SENDING_SHARE = 0.8;
const builds = new SharedWork<BuiltImage>();

/**
 * Makes sure that an image of ours is on this machine, with the ones below it. Needs no registry
 * but for what a foundation needs.
 *
 * @throws image_missing, docker_unavailable, sandbox_failed
 */
export async function ensureImage(image: BuildName, o: BuildOptions): Promise<BuiltImage> {
  return await ensureRecipe(await recipe(image, o), o);
}

/** The same for a recipe that is known already. */
export async function ensureRecipe(wanted: Recipe, o: BuildOptions): Promise<BuiltImage> {
  const { engine, signal } = o;
  const found = await findLocalImage(engine, wanted.tag, signal);
  if (found !== undefined) return builtImage(wanted, found, false);
  if (wanted.below !== undefined) await ensureRecipe(wanted.below, o);
  const key = `${engine.address} ${wanted.tag}`;
  return await builds.run(key, signal, (shared) => build(wanted, { ...o, signal: shared }));
}

/** What the engine is told besides the context. */
export function buildArguments(wanted: Recipe): Record<string, string> {
  return {
    BASE: wanted.below?.tag ?? wanted.foundation?.reference ?? "scratch",
    IMAGE: wanted.image,
    HARNESSES: wanted.harnesses.join(","),
    CONTENT: wanted.tag,
  };
}

/** Dockerfile and rootfs of one layer, as a tar stream. */
export async function contextOf(
  wanted: Recipe,
  o: { signal: AbortSignal; onBytes?: (sent: number, total: number) => void },
) {
  const text = wanted.foundation?.libc === "musl" ? alpineDockerfile : dockerfile;
  return await buildContext(text, await wanted.entries(o.signal), o.onBytes);
}

function builtImage(wanted: Recipe, found: LocalImage, built: boolean): BuiltImage {
  const { id, digest, platform } = found;
  return { image: wanted.image, tag: wanted.tag, id, digest, platform, built };
}

async function build(wanted: Recipe, o: BuildOptions): Promise<BuiltImage> {
  const { engine, signal, onProgress } = o;
  onProgress?.(`building ${wanted.tag}`, 0);
  const lines: string[] = [];
  const onBytes = (sent: number, total: number) =>
    onProgress?.(`sending ${wanted.tag}`, (SENDING_SHARE * sent) / Math.max(total, 1));
  const context = await contextOf(wanted, { signal, onBytes });
  const onMessage = (message: EngineMessage) => {
    const line = (message.error ?? message.stream ?? message.status ?? "").trim();
    if (line === "" || /^(--->|Removing intermediate)/.test(line)) return;
    lines.push(line);
    onProgress?.(line, stepShare(line));
  };
  await engine.call(
    `build ${wanted.tag}`,
    async (docker, abortSignal) => {
      const output = await docker.buildImage(context, {
        t: wanted.tag,
        forcerm: true,
        pull: false,
        nocache: o.afresh === true,
        platform: wanted.platform,
        buildargs: buildArguments(wanted),
        abortSignal,
      });
      const failed = await followProgress(docker, output, onMessage);
      if (failed === undefined) return;
      throw new DecoError("sandbox_failed", `the image does not build: ${failed}`, {
        fix: "Run `deco image build` for all that the engine says; `docker system df` shows its room.",
      });
    },
    { signal, deadlineMs: BUILD_DEADLINE_MS },
  );
  const found = await findLocalImage(engine, wanted.tag, signal);
  if (found !== undefined) return builtImage(wanted, found, true);
  const said = lines.slice(-3).join(" ");
  throw new DecoError("image_missing", `the build left no ${wanted.tag}: ${said}`);
}

/** Of `Step 3/14 : …`. */
function stepShare(line: string): number | undefined {
  const [, step, of] = /^Step (\d+)\/(\d+)/.exec(line) ?? [];
  if (step === undefined || of === undefined) return undefined;
  return SENDING_SHARE + ((1 - SENDING_SHARE) * Number(step)) / Number(of);
}
