import { randomBytes } from "node:crypto";
import { text } from "node:stream/consumers";
import { extract } from "tar-stream";
import { DecoError } from "../../../../protocol/errors.ts";
import type { Foundation } from "../../../images/foundation.ts";
import { hostPlatform } from "../../../images/target.ts";
import type { Platform } from "../../../templates/template.ts";
import { type Engine, orMissing } from "../engine/engine.ts";
import { checkPlatform, findLocalImage } from "./local-image.ts";
import { pullImage } from "./pull-image.ts";

interface FoundationOptions {
  readonly platform?: Platform | undefined;
  readonly signal: AbortSignal;
  readonly onProgress?: (line: string, fraction?: number) => void;
}

/**
 * What has to be known of an image that ours are built on; it is pulled where it is not here. Its
 * files are read through a container that is never started, so that any platform will do.
 *
 * @throws image_missing, docker_unavailable, sandbox_failed
 */
export async function readFoundation(
  engine: Engine,
  reference: string,
  o: FoundationOptions,
): Promise<Foundation> {
  const { signal, onProgress, platform = hostPlatform() } = o;
  const image =
    (await findLocalImage(engine, reference, signal)) ??
    (await pullImage(engine, reference, {
      platform,
      signal,
      onProgress: (fraction, said) => onProgress?.(`${reference}: ${said}`, fraction),
    }));
  checkPlatform(reference, image, platform);
  const name = `deco-base-${randomBytes(6).toString("hex")}`;
  const made = await engine.call(
    "create a container",
    (docker) => docker.createContainer({ name, Image: reference, Cmd: ["true"], platform }),
    { signal },
  );
  try {
    const read = (path: string) => readText(engine, { container: made.id, path, signal });
    const loader = `/lib/ld-musl-${platform === "linux/arm64" ? "aarch64" : "x86_64"}.so.1`;
    return {
      reference,
      id: image.id,
      libc: (await read(loader)) === undefined ? "glibc" : "musl",
      passwd: (await read("/etc/passwd")) ?? "root:x:0:0:root:/root:/bin/sh\n",
      group: (await read("/etc/group")) ?? "root:x:0:\n",
    };
  } finally {
    await engine.call("remove a container", () => made.remove({ force: true }), {
      signal: AbortSignal.timeout(20_000),
    });
  }
}

/** A small file out of a container; undefined when it is not there, empty when it is no file. */
async function readText(
  engine: Engine,
  o: { container: string; path: string; signal: AbortSignal },
): Promise<string | undefined> {
  const work = engine.call(
    "read a file",
    async (docker) => {
      const archive = await docker.getContainer(o.container).getArchive({ path: o.path });
      for await (const entry of archive.pipe(extract())) return await text(entry);
      throw new DecoError("sandbox_failed", `${o.path} came as an empty archive`);
    },
    { signal: o.signal },
  );
  return await orMissing(work);
}
