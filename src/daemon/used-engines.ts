import { z } from "zod";
import type { EngineMemory } from "../sandbox/drivers/docker/engine/engine-mark.ts";
import type { Log } from "./log.ts";
import { readPrivateJson, writePrivateJson } from "./private-file.ts";

const UsedEngine = z.object({
  mark: z.string(),
  address: z.string(),
  /** RFC 3339: when a daemon first made a sandbox with it in its life. */
  usedAt: z.string(),
});
export type UsedEngine = z.infer<typeof UsedEngine>;

const UsedEngines = z.looseObject({ engines: z.array(UsedEngine) });
/** Whoever tries many engines on one home is remembered by the last ones. */
const KEPT = 16;

/**
 * Docker engines that this home has made sandboxes with, the last one first.
 *
 * @throws DecoError `storage_failed` when the file can't be read
 */
export async function readUsedEngines(path: string): Promise<readonly UsedEngine[]> {
  const parsed = UsedEngines.safeParse(await readPrivateJson(path));
  return parsed.success ? parsed.data.engines : [];
}

/** A file that can't be read is as none: sandboxes still carry their engine's mark. */
export async function openEngineMemory(
  path: string,
  log: Pick<Log, "warn">,
): Promise<EngineMemory> {
  let engines = await readUsedEngines(path).catch((error: unknown): readonly UsedEngine[] => {
    log.warn(
      { err: error, path },
      "the engines that this home used can't be read; the next one is noted anew",
    );
    return [];
  });
  let noted: string | undefined;
  return {
    known: () => engines.map(({ mark }) => mark),
    use: async ({ mark, address }) => {
      if (noted === mark) return;
      noted = mark;
      const others = engines.filter((one) => one.mark !== mark);
      engines = [{ mark, address, usedAt: new Date().toISOString() }, ...others].slice(0, KEPT);
      // Without the note sandboxes still carry their engine's mark.
      await writePrivateJson(path, { engines }).catch((error: unknown) => {
        log.warn({ err: error, path }, "the engine of this home's sandboxes could not be noted");
      });
    },
  };
}
