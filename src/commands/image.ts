import { makePaths } from "../daemon/paths.ts";
import { ensureImage, IMAGE_LABEL } from "../sandbox/drivers/docker/build-image.ts";
import { dockerEngine } from "../sandbox/drivers/docker/engine.ts";
import type { Command, CommandContext } from "./command.ts";
import { settings } from "./settings.ts";
import { table } from "./text-table.ts";

/** `deco image build`: the image of a harness, from this machine's own files; no registry. */
export function build(flags: { readonly harness: string }): Command {
  return async (context) => {
    const { out, signal } = context;
    const { engine, cacheDir } = await engineOf(context);
    const image = flags.harness === "claude-code" ? "claude-code" : "harnessd";
    const onProgress = (line: string) => out.note(out.dim(`  ${line}`));
    const built = await ensureImage(image, { engine, cacheDir, signal, onProgress });
    out.result(built, () => `${built.built ? "built" : "up to date"}: ${built.tag}`);
    return 0;
  };
}

/** `deco image ls`: the images of ours on this machine's engine. */
export function list(): Command {
  return async (context) => {
    const { out, signal } = context;
    const { engine } = await engineOf(context);
    const found = await engine.call(
      "list images",
      (docker) => docker.listImages({ filters: { label: [IMAGE_LABEL] } }),
      { signal },
    );
    const images = found.map(({ Id, RepoTags, Size, Created }) => ({
      id: Id,
      tags: RepoTags ?? [],
      sizeBytes: Size,
      createdAt: new Date(Created * 1000).toISOString(),
    }));
    out.result({ images }, () => {
      if (images.length === 0) return "no images; build one with `deco image build`";
      const rows = images.map(({ id, tags, sizeBytes, createdAt }) => [
        tags.join(", ") || "<none>",
        id.replace("sha256:", "").slice(0, 12),
        `${Math.round(sizeBytes / 1e6)} MB`,
        createdAt,
      ]);
      return table(["IMAGE", "ID", "SIZE", "CREATED"], rows);
    });
    return 0;
  };
}

async function engineOf({ env }: CommandContext) {
  const { paths, dockerHost } = settings(env);
  await makePaths(paths);
  const engine = dockerEngine(dockerHost);
  return { engine, cacheDir: paths.cache };
}
