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

interface IdleSince {
  /** Resolves when what a daemon before knew is here. */
  loaded(): Promise<void>;
  /** When it was first seen idle: now, where it was not yet. */
  since(key: string): number;
  forget(key: string): void;
  keep(stays: (key: string) => boolean): void;
  /** Written where it has changed. */
  save(): Promise<void>;
}

/** Since when each is idle, in memory and on disk. */
export function idleSince(o: { times: IdleTimes | undefined; now: () => number }): IdleSince {
  const { times, now } = o;
  const seen = new Map<string, number>();
  let saved = "";
  const load = async () => {
    if (times === undefined) return;
    // A clock that was set back must not make one stay for ever.
    for (const [key, since] of await times.load()) seen.set(key, Math.min(since, now()));
  };
  const loading = load();
  return {
    loaded: () => loading,
    since: (key) => {
      const since = seen.get(key) ?? now();
      seen.set(key, since);
      return since;
    },
    forget: (key) => void seen.delete(key),
    keep: (stays) => {
      for (const key of seen.keys()) if (!stays(key)) seen.delete(key);
    },
    save: async () => {
      const text = JSON.stringify([...seen]);
      if (text === saved) return;
      await times?.save(seen);
      saved = text;
    },
  };
}
