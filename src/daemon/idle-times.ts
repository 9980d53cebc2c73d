import { z } from "zod";
import type { Log } from "./log.ts";
import { readPrivateJson, writePrivateJson } from "./private-file.ts";

/** When each sandbox was first seen idle (ms), by provider, handle and id; outlives the daemon. */
export interface IdleTimes {
  load(): Promise<ReadonlyMap<string, number>>;
  save(times: ReadonlyMap<string, number>): Promise<void>;
}

const Times = z.record(z.string(), z.number().int().nonnegative());

/** Without the file each idle time begins anew: what can't be read or written is only logged. */
export function idleTimesFile(path: string, log: Log): IdleTimes {
  return {
    load: async () => {
      try {
        const known = await readPrivateJson(path);
        return new Map(Object.entries(known === undefined ? {} : Times.parse(known)));
      } catch (error) {
        log.warn({ err: error, path }, "idle times are not known: they begin anew");
        return new Map();
      }
    },
    save: async (times) => {
      await writePrivateJson(path, Object.fromEntries(times)).catch((error: unknown) => {
        log.warn({ err: error, path }, "idle times are not on disk; again in a minute");
      });
    },
  };
}
