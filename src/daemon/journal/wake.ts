import { type Deferred, deferred } from "../../protocol/deferred.ts";

/** Named places to wait at: `wake(name)` lets everyone go on who waits there. */
export interface Wake {
  wake(name: string): void;
  wakeAll(): void;
  /** Resolves at the next wake; rejects with the signal's reason. */
  wait(name: string, signal: AbortSignal): Promise<void>;
}

export function createWake(): Wake {
  const waiting = new Map<string, Deferred<void>>();
  const wake = (name: string) => {
    const place = waiting.get(name);
    waiting.delete(name);
    place?.resolve();
  };
  return {
    wake,
    wakeAll: () => {
      for (const name of waiting.keys()) wake(name);
    },
    wait: async (name, signal) => {
      signal.throwIfAborted();
      let place = waiting.get(name);
      if (!place) {
        place = deferred();
        waiting.set(name, place);
      }
      const gone = deferred<never>();
      const onAbort = () => gone.reject(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        await Promise.race([place.promise, gone.promise]);
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
    },
  };
}
