import { DecoError } from "../../../../protocol/errors.ts";
import { hostPlatform } from "../../../images/target.ts";
import { SharedWork } from "../../../shared-work.ts";
import type { Platform } from "../../../templates/template.ts";
import type { Engine } from "../engine/engine.ts";
import { type EngineMessage, followProgress } from "../engine/engine-progress.ts";
import { checkPlatform, findLocalImage, type LocalImage, pullFix } from "./local-image.ts";

export interface PullOptions {
  /** The host's own when absent; the container must be made with the same (LESSONS 32). */
  readonly platform?: Platform | undefined;
  readonly signal: AbortSignal;
  /** Share of the bytes that are here, 0 to 1; layers that are only now found make it fall. */
  readonly onProgress?: (fraction: number, text: string) => void;
}

const PULL_DEADLINE_MS = 1_800_000;
const pulls = new SharedWork<LocalImage>();

/**
 * Brings an image from its registry. Callers at the same time share one pull.
 *
 * @throws image_missing with the engine's own words and the command to try by hand,
 * docker_unavailable
 */
export async function pullImage(
  engine: Engine,
  reference: string,
  o: PullOptions,
): Promise<LocalImage> {
  const platform = o.platform ?? hostPlatform();
  const key = `${engine.address} ${platform} ${reference}`;
  return await pulls.run(key, o.signal, (signal) =>
    pull(engine, reference, { ...o, platform, signal }),
  );
}

async function pull(
  engine: Engine,
  reference: string,
  o: PullOptions & { platform: Platform },
): Promise<LocalImage> {
  const { platform, signal, onProgress } = o;
  const missing = (why: string) =>
    new DecoError("image_missing", `${reference} can't be pulled: ${why}`, {
      fix: pullFix(reference, platform),
    });
  const layers = new Map<string, Layer>();
  const onMessage = (message: EngineMessage) => {
    noteLayer(layers, message);
    if (message.status !== undefined) onProgress?.(share(layers), message.status);
  };
  const work = engine.call(
    `pull ${reference}`,
    async (docker, abortSignal) => {
      const output = await docker.pull(reference, { platform, abortSignal });
      return await followProgress(docker, output, onMessage);
    },
    { signal, deadlineMs: PULL_DEADLINE_MS },
  );
  const failed = await work.catch((thrown: unknown) => {
    signal.throwIfAborted();
    const error = DecoError.from(thrown);
    if (error.code === "docker_unavailable") throw error;
    return error.message;
  });
  if (failed !== undefined) throw missing(failed);
  const found = await findLocalImage(engine, reference, signal);
  if (found === undefined) throw missing("the engine said nothing, and has none");
  checkPlatform(reference, found, platform);
  onProgress?.(1, "pulled");
  return found;
}

interface Layer {
  readonly current: number;
  readonly total: number;
}

/** A layer is downloaded, then extracted: each half of it. */
function noteLayer(layers: Map<string, Layer>, { id, status, current, total }: EngineMessage) {
  if (id === undefined) return;
  const known = layers.get(id)?.total ?? 1;
  if (status === "Pull complete" || status === "Already exists") {
    layers.set(id, { current: known, total: known });
  } else if (status === "Download complete") {
    layers.set(id, { current: known / 2, total: known });
  } else if (current !== undefined && total !== undefined && total > 0) {
    const half = status === "Extracting" ? total / 2 : 0;
    layers.set(id, { current: half + current / 2, total });
  } else if (status === "Pulling fs layer" || status === "Waiting") {
    layers.set(id, { current: 0, total: known });
  }
}

function share(layers: ReadonlyMap<string, Layer>): number {
  const sum = (field: keyof Layer) => [...layers.values()].reduce((all, l) => all + l[field], 0);
  const total = sum("total");
  return total === 0 ? 0 : sum("current") / total;
}
