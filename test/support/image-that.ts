import { Readable } from "node:stream";
import type Docker from "dockerode";
import { pack } from "tar-stream";
import { dockerEngine } from "../../src/sandbox/drivers/docker/engine/engine.ts";
import { ensureImage } from "../../src/sandbox/drivers/docker/image/build-image.ts";
import { CACHE_DIR } from "../suites/sandbox-provider-suite.ts";

/** An image of ours that runs a shell script where it should start harnessd. Remove it by its tag. */
export async function imageThat(
  docker: Docker,
  name: string,
  script: string,
  signal: AbortSignal,
): Promise<string> {
  const engine = dockerEngine(undefined);
  const base = await ensureImage("harnessd", { engine, cacheDir: CACHE_DIR, signal });
  const tag = `deco-link-test/${name}:${process.pid}`;
  const tar = pack();
  const lines = [`FROM ${base.tag}`, `ENTRYPOINT ${JSON.stringify(["sh", "-c", script])}`];
  tar.entry({ name: "Dockerfile" }, lines.join("\n"));
  tar.finalize();
  const output = await docker.buildImage(Readable.from(tar), { t: tag, forcerm: true });
  await new Promise((resolve) => docker.modem.followProgress(output, resolve));
  return tag;
}
